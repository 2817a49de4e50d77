"""Monthly partitions of `scoring.touchpoints`."""

from datetime import UTC, datetime

from libs.common.db.connection import Connection
from libs.common.db.unit_of_work import unit_of_work
from libs.common.instants import from_datetime, to_datetime

_MONTHS_BACK, _MONTHS_AHEAD = 18, 2
"""Of each look-up by contact without a lower bound every partition costs a descent."""
_LOCK = 7235195


async def create_partitions(connection: Connection, now: int) -> None:
    """Lock against other processes and create the missing monthly partitions around `now` (µs UTC).

    Older and newer rows go to the default partition. A month with rows in the default partition
    gets no partition.
    """
    today = to_datetime(now)
    this_month = today.year * 12 + today.month - 1
    async with unit_of_work(connection):
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        for month in range(this_month - _MONTHS_BACK, this_month + _MONTHS_AHEAD):
            start, end = _instant(month), _instant(month + 1)
            name = f"touchpoints_{month // 12:04d}_{month % 12 + 1:02d}"
            exists = await connection.fetchval("SELECT to_regclass($1)", f"scoring.{name}")
            if exists is None and not await _in_default(connection, start, end):
                await connection.execute(
                    f"CREATE TABLE scoring.{name} PARTITION OF scoring.touchpoints "
                    f"FOR VALUES FROM ({start}) TO ({end})"
                )


async def _in_default(connection: Connection, start: int, end: int) -> bool:
    return bool(
        await connection.fetchval(
            "SELECT EXISTS (SELECT FROM scoring.touchpoints_default "
            "WHERE occurred_at >= $1 AND occurred_at < $2)",
            start,
            end,
        )
    )


def _instant(month: int) -> int:
    return from_datetime(datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC))
