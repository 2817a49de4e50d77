"""Touchpoint echoes that wait for the ingest API."""

from collections.abc import Sequence

from libs.common.db.connection import Connection
from libs.common.db.notifications import notify

ECHOES_CHANNEL = "orchestrator_echoes"
"""Notified when touchpoint echoes are inserted."""


async def insert_echoes(connection: Connection, bodies: Sequence[bytes]) -> None:
    """Insert tracking calls (JSON)."""
    if not bodies:
        return
    await connection.executemany(
        "INSERT INTO orchestrator.echoes (body) VALUES ($1)", [(body,) for body in bodies]
    )
    await notify(connection, ECHOES_CHANNEL)


async def list_echoes(connection: Connection, limit: int) -> list[tuple[int, bytes]]:
    """Return (id, body) of the waiting tracking calls, the oldest first."""
    rows = await connection.fetch(
        "SELECT id, body FROM orchestrator.echoes ORDER BY id LIMIT $1", limit
    )
    return [(r[0], r[1]) for r in rows]


async def delete_echoes(connection: Connection, ids: Sequence[int]) -> None:
    """Delete tracking calls that ingest has accepted."""
    await connection.execute(
        "DELETE FROM orchestrator.echoes WHERE id = ANY($1::bigint[])", list(ids)
    )
