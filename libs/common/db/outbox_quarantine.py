"""Outbox rows that the broker refused: list, resend or skip them.

While a refused row waits, later rows of its key wait too, so that consumers see no gap. A skipped
row stays in the table for the operator; consumers never receive it.
"""

from typing import Literal

import msgspec

from libs.common.db.connection import Connection, Session
from libs.common.db.unit_of_work import unit_of_work
from libs.common.errors import NotFound

Schema = Literal["scoring", "orchestrator"]


class QuarantinedRow(msgspec.Struct, frozen=True):
    """Refused outbox row; `behind` is the number of later rows of its key that wait."""

    id: int
    topic: str
    key: str
    size: int
    error: str
    skipped: bool
    behind: int


async def count_quarantined(connection: Connection, schema: Schema) -> int:
    """Return how many refused rows wait for the operator; skipped ones do not count."""
    count: int = await connection.fetchval(
        f"SELECT count(*) FROM {schema}.outbox WHERE refused IS NOT NULL AND NOT skipped"  # noqa: S608
    )
    return count


async def list_quarantined(connection: Connection, schema: Schema) -> list[QuarantinedRow]:
    """Return the refused rows, oldest first."""
    rows = await connection.fetch(
        "SELECT o.id, o.topic, o.key, coalesce(length(o.value), 0), o.refused, o.skipped, "  # noqa: S608
        f"(SELECT count(*) FROM {schema}.outbox b WHERE b.shard = o.shard AND b.topic = o.topic "
        f"AND b.key = o.key AND b.id > o.id) FROM {schema}.outbox o "
        "WHERE o.refused IS NOT NULL ORDER BY o.id"
    )
    return [
        QuarantinedRow(r[0], r[1], r[2].decode("utf-8", "replace"), r[3], r[4], r[5], r[6])
        for r in rows
    ]


async def get_quarantined_value(connection: Connection, schema: Schema, row: int) -> bytes | None:
    """Return a refused row's value (None is a tombstone). Raises NotFound."""
    value_row = await connection.fetchrow(
        f"SELECT value FROM {schema}.outbox WHERE id = $1 AND refused IS NOT NULL",  # noqa: S608
        row,
    )
    if value_row is None:
        raise NotFound(f"{schema}'s outbox has no refused row {row}")
    value: bytes | None = value_row["value"]
    return value


async def update_for_resend(connection: Connection, schema: Schema, row: int) -> None:
    """Release a refused row to the relay, after the cause is fixed. Raises NotFound."""
    await _update_refused_row(connection, schema, row, "refused = NULL, skipped = false")


async def update_as_skipped(connection: Connection, schema: Schema, row: int) -> None:
    """Skip a refused row: later rows of its key are published without it. Raises NotFound."""
    await _update_refused_row(connection, schema, row, "skipped = true")


async def _update_refused_row(
    connection: Connection, schema: Schema, row: int, assignments: str
) -> None:
    updated_id = await connection.fetchval(
        f"UPDATE {schema}.outbox SET {assignments} "  # noqa: S608
        "WHERE id = $1 AND refused IS NOT NULL RETURNING id",
        row,
    )
    if updated_id is None:
        raise NotFound(f"{schema}'s outbox has no refused row {row}")
    await connection.execute(f"NOTIFY {schema}_outbox")


class OutboxQuarantineService:
    """The operator's use cases of one service's quarantine."""

    def __init__(self, session: Session, schema: Schema) -> None:
        self._session = session
        self._schema = schema

    async def list_rows(self) -> list[QuarantinedRow]:
        """Return the refused rows, oldest first."""
        async with self._session.acquire() as connection:
            return await list_quarantined(connection, self._schema)

    async def get_value(self, row: int) -> bytes | None:
        """Return a refused row's value; None is a tombstone. Raises NotFound."""
        async with self._session.acquire() as connection:
            return await get_quarantined_value(connection, self._schema, row)

    async def resend(self, row: int) -> None:
        """Let the relay try a refused row again. Raises NotFound."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            await update_for_resend(connection, self._schema, row)

    async def skip(self, row: int) -> None:
        """Let the rows behind a refused one pass. Raises NotFound."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            await update_as_skipped(connection, self._schema, row)
