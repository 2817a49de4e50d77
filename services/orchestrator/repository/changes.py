"""Change counter of plays, definitions and channel switches."""

from libs.common.db.connection import Connection
from libs.common.db.notifications import notify
from libs.common.ids import WorkspaceId

CHANGES_CHANNEL = "orchestrator_changes"
"""Notified of each change of plays, definitions and switches."""


async def get_change_counter(connection: Connection) -> int:
    """Return a number that grows with every change of any workspace."""
    counter: int = await connection.fetchval(
        "SELECT coalesce(sum(count), 0)::bigint FROM orchestrator.changes"
    )
    return counter


async def update_change_counter(connection: Connection, workspace: WorkspaceId) -> None:
    """Count a change, so that every process reads its play registry again."""
    await connection.execute(
        "INSERT INTO orchestrator.changes VALUES ($1, 1) ON CONFLICT (workspace) "
        "DO UPDATE SET count = changes.count + 1",
        workspace,
    )
    await notify(connection, CHANGES_CHANNEL)
