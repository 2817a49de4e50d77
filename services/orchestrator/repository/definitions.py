"""Definitions that plays refer to: contents, segments and destinations, as YAML."""

from typing import Literal

from libs.common.db.connection import Connection
from libs.common.ids import WorkspaceId
from services.orchestrator.repository import changes

DefinitionKind = Literal["content", "segment", "destination"]


async def upsert_definition(
    connection: Connection,
    workspace: WorkspaceId,
    kind: DefinitionKind,
    name: str,
    text: str,
    author: str,
) -> None:
    """Insert a definition, or overwrite the stored one of that name."""
    await connection.execute(
        "INSERT INTO orchestrator.definitions (workspace, kind, name, text, author) "
        "VALUES ($1, $2, $3, $4, $5) "
        "ON CONFLICT (workspace, kind, name) DO UPDATE SET text = excluded.text, author = "
        "excluded.author, changed_at = now()",
        workspace,
        kind,
        name,
        text,
        author,
    )
    await changes.update_change_counter(connection, workspace)


async def delete_definition(
    connection: Connection, workspace: WorkspaceId, kind: DefinitionKind, name: str
) -> bool:
    """Delete a definition; return whether there was one."""
    is_deleted = await connection.fetchval(
        "DELETE FROM orchestrator.definitions WHERE (workspace, kind, name) = ($1, $2, $3) "
        "RETURNING true",
        workspace,
        kind,
        name,
    )
    await changes.update_change_counter(connection, workspace)
    return bool(is_deleted)


async def list_definitions(
    connection: Connection,
) -> list[tuple[WorkspaceId, DefinitionKind, str, str]]:
    """Return (workspace, kind, name, text) of all definitions."""
    rows = await connection.fetch(
        "SELECT workspace, kind, name, text FROM orchestrator.definitions ORDER BY 1, 2, 3"
    )
    return [(r[0], r[1], r[2], r[3]) for r in rows]
