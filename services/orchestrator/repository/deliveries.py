"""Delivery attempts of actions, each with its outcome."""

from collections.abc import Sequence

from libs.common.db.connection import Connection


async def insert_deliveries(
    connection: Connection, rows: Sequence[tuple[str, int, str, str, int]]
) -> None:
    """Insert attempts: (action id, attempt, outcome, detail, instant in µs UTC)."""
    await connection.executemany(
        "INSERT INTO orchestrator.deliveries (action_id, attempt, outcome, detail, at) "
        "VALUES ($1, $2, $3, $4, $5) ON CONFLICT (action_id, attempt) DO NOTHING",
        [
            (action, attempt, outcome, detail[:300], at)
            for action, attempt, outcome, detail, at in rows
        ],
    )
