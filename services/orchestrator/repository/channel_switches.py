"""Kill switches: channels that are stopped."""

from libs.common.db.connection import Connection
from libs.common.ids import WorkspaceId
from services.orchestrator.repository import changes


async def update_channel_switch(
    connection: Connection, workspace: WorkspaceId, channel: str, author: str, *, stop: bool
) -> None:
    """Stop a channel of a workspace (`*` for all channels), or start it again."""
    if stop:
        await connection.execute(
            "INSERT INTO orchestrator.switches (workspace, channel, author) "
            "VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            workspace,
            channel,
            author,
        )
    else:
        await connection.execute(
            "DELETE FROM orchestrator.switches WHERE (workspace, channel) = ($1, $2)",
            workspace,
            channel,
        )
    await changes.update_change_counter(connection, workspace)


async def list_stopped_channels(connection: Connection) -> set[tuple[WorkspaceId, str]]:
    """Return the stopped channels: (workspace, channel)."""
    return {
        (r[0], r[1])
        for r in await connection.fetch("SELECT workspace, channel FROM orchestrator.switches")
    }
