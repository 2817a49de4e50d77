"""Gauge collector: metrics that are queried from the database every few seconds."""

from collections.abc import Awaitable, Callable, Sequence

from libs.common.db.connection import Connection, Session
from libs.common.errors import Unavailable
from libs.common.observability import metrics

INTERVAL_SECONDS = 10.0
GaugeQuery = Callable[[Connection], Awaitable[None]]
"""Query that sets gauges."""


class GaugeCollector:
    """Runs gauge queries in sequence."""

    def __init__(self, session: Session, looks: Sequence[GaugeQuery]) -> None:
        self._session = session
        self._looks = looks

    async def collect(self) -> bool:
        """Set the gauges once; while the database is unavailable they keep their values."""
        try:
            async with self._session.acquire() as connection:
                for look in self._looks:
                    await look(connection)
        except Unavailable:
            return False
        return False


def outbox_gauges(schema: str) -> GaugeQuery:
    """Return the gauge query of an outbox."""

    async def _query(connection: Connection) -> None:
        rows = await connection.fetch(
            f"SELECT refused IS NOT NULL AND NOT skipped, count(*) FROM {schema}.outbox "  # noqa: S608
            "WHERE NOT skipped GROUP BY 1"
        )
        counts: dict[bool, int] = {r[0]: r[1] for r in rows}
        metrics.OUTBOX_WAITING.labels(service=schema).set(counts.get(False, 0))
        metrics.OUTBOX_REFUSED.labels(service=schema).set(counts.get(True, 0))

    return _query


async def collect_database_gauges(connection: Connection) -> None:
    """Set the gauge of the database size."""
    metrics.DATABASE_BYTES.set(
        await connection.fetchval("SELECT pg_database_size(current_database())")
    )
