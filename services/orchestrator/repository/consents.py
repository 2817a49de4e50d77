"""What contacts allow: consents as they were told, and the channels on which nothing goes out any more."""

from collections.abc import Sequence

from libs.common.db.connection import Connection

ConsentRow = tuple[str, str, str, bool, int, str]
"""(workspace, contact, purpose, granted, occurred_at, signal id)"""


async def put(connection: Connection, rows: Sequence[ConsentRow]) -> None:
    """Keep the latest consent by instant; at one instant the stricter one holds."""
    await connection.executemany(
        "INSERT INTO orchestrator.consents (workspace, contact_id, purpose, granted, occurred_at, signal_id) "
        "VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (contact_id, purpose) DO UPDATE SET granted = excluded.granted, "
        "occurred_at = excluded.occurred_at, signal_id = excluded.signal_id "
        "WHERE consents.occurred_at < excluded.occurred_at "
        "OR (consents.occurred_at = excluded.occurred_at AND consents.granted AND NOT excluded.granted)",
        rows,
    )


async def granted(connection: Connection, workspace: str) -> int:
    """Return how many consents are recorded."""
    found: int = await connection.fetchval(
        "SELECT count(*) FROM orchestrator.consents WHERE workspace = $1 AND granted", workspace
    )
    return found


async def suppress(connection: Connection, contact_id: str, channel: str, reason: str) -> None:
    """Send this contact nothing more on the channel."""
    await connection.execute(
        "INSERT INTO orchestrator.suppressions (contact_id, channel, reason) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        contact_id,
        channel,
        reason,
    )
