"""What a service's tables say of how it does, looked at every few seconds for `/metrics`."""

from collections.abc import Awaitable, Callable, Sequence

from libs.common.db.connection import Connection, Session
from libs.common.errors import Unavailable
from libs.common.observability import metrics

INTERVAL_SECONDS = 10.0
GaugeQuery = Callable[[Connection], Awaitable[None]]
"""Sets gauges from what a connection shows."""


class GaugeCollector:
    """Looks, one thing after the other."""

    def __init__(self, session: Session, looks: Sequence[GaugeQuery]) -> None:
        self._session = session
        self._looks = looks

    async def collect(self) -> bool:
        """Set the gauges once; while the database is away they keep what they said."""
        try:
            async with self._session.acquire() as connection:
                for look in self._looks:
                    await look(connection)
        except Unavailable:
            return False
        return False


def outbox_gauges(schema: str) -> GaugeQuery:
    """Return what looks at an outbox."""

    async def _look(connection: Connection) -> None:
        rows = await connection.fetch(
            f"SELECT refused IS NOT NULL AND NOT skipped, count(*) FROM {schema}.outbox "  # noqa: S608
            "WHERE NOT skipped GROUP BY 1"
        )
        counts: dict[bool, int] = {r[0]: r[1] for r in rows}
        metrics.OUTBOX_WAITING.labels(service=schema).set(counts.get(False, 0))
        metrics.OUTBOX_REFUSED.labels(service=schema).set(counts.get(True, 0))

    return _look


async def collect_database_gauges(connection: Connection) -> None:
    """Look at how large the database is."""
    metrics.DATABASE_BYTES.set(
        await connection.fetchval("SELECT pg_database_size(current_database())")
    )
