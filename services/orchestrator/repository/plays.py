"""Plays and their versions."""

from datetime import datetime

import msgspec

from libs.common.db.connection import Connection
from libs.common.ids import WorkspaceId
from services.orchestrator.repository import changes


class PlayRow(msgspec.Struct, frozen=True):
    """A play with its live version; enrollments keep the version that they began with."""

    workspace: WorkspaceId
    play: str
    number: int
    status: str
    text: str
    author: str
    published_at: datetime


async def list_live_versions(connection: Connection) -> list[PlayRow]:
    """Return every play with its live version."""
    rows = await connection.fetch(
        "SELECT p.workspace, p.play, p.number, p.status, v.text, v.author, v.published_at "
        "FROM orchestrator.plays p "
        "JOIN orchestrator.play_versions v USING (workspace, play, number) "
        "ORDER BY p.workspace, p.play"
    )
    return [PlayRow(*r) for r in rows]


async def get_for_update(
    connection: Connection, workspace: WorkspaceId, play: str
) -> PlayRow | None:
    """Return a play with its live version, and lock the play."""
    row = await connection.fetchrow(
        "SELECT p.workspace, p.play, p.number, p.status, v.text, v.author, v.published_at "
        "FROM orchestrator.plays p "
        "JOIN orchestrator.play_versions v USING (workspace, play, number) "
        "WHERE (p.workspace, p.play) = ($1, $2) "
        "FOR UPDATE OF p",
        workspace,
        play,
    )
    return PlayRow(*row) if row else None


async def get_text(
    connection: Connection, workspace: WorkspaceId, play: str, number: int
) -> str | None:
    """Return the text of a version as it was published."""
    text: str | None = await connection.fetchval(
        "SELECT text FROM orchestrator.play_versions "
        "WHERE (workspace, play, number) = ($1, $2, $3)",
        workspace,
        play,
        number,
    )
    return text


async def list_versions_in_use(
    connection: Connection, workspace: WorkspaceId
) -> list[tuple[str, int, str]]:
    """Return (play, number, text) of versions that are live, paused or run by an enrollment."""
    rows = await connection.fetch(
        "SELECT v.play, v.number, v.text FROM orchestrator.play_versions v "
        "WHERE v.workspace = $1 AND ("
        "EXISTS (SELECT FROM orchestrator.plays p WHERE (p.workspace, p.play, p.number) = "
        "(v.workspace, v.play, v.number)) OR "
        "EXISTS (SELECT FROM orchestrator.enrollments e "
        "WHERE (e.workspace, e.play, e.number) = (v.workspace, v.play, v.number) "
        "AND e.status = 'active')) ORDER BY 1, 2",
        workspace,
    )
    return [(r[0], r[1], r[2]) for r in rows]


async def list_versions(
    connection: Connection, workspace: WorkspaceId, play: str
) -> list[tuple[int, str, datetime]]:
    """Return (number, author, published_at) of a play's versions, newest first."""
    rows = await connection.fetch(
        "SELECT number, author, published_at FROM orchestrator.play_versions "
        "WHERE (workspace, play) = ($1, $2) "
        "ORDER BY number DESC",
        workspace,
        play,
    )
    return [(r[0], r[1], r[2]) for r in rows]


async def insert_version(
    connection: Connection, workspace: WorkspaceId, play: str, text: str, author: str
) -> int:
    """Add a version, make it live, and return its number."""
    number: int = await connection.fetchval(
        "INSERT INTO orchestrator.play_versions (workspace, play, number, text, author) SELECT $1, "
        "$2, "
        "coalesce(max(number), 0) + 1, $3, $4 FROM orchestrator.play_versions "
        "WHERE (workspace, play) = ($1, $2) "
        "RETURNING number",
        workspace,
        play,
        text,
        author,
    )
    await update_live_version(connection, workspace, play, number)
    return number


async def update_live_version(
    connection: Connection, workspace: WorkspaceId, play: str, number: int
) -> None:
    """Make a version live; a paused play stays paused."""
    await connection.execute(
        "INSERT INTO orchestrator.plays (workspace, play, number, status) "
        "VALUES ($1, $2, $3, 'live') "
        "ON CONFLICT (workspace, play) DO UPDATE SET number = excluded.number",
        workspace,
        play,
        number,
    )
    await changes.update_change_counter(connection, workspace)


async def update_status(
    connection: Connection, workspace: WorkspaceId, play: str, status: str
) -> bool:
    """Set the status of a play; return whether there is such a play."""
    is_updated = await connection.fetchval(
        "UPDATE orchestrator.plays SET status = $3 WHERE (workspace, play) = ($1, $2) "
        "RETURNING true",
        workspace,
        play,
        status,
    )
    await changes.update_change_counter(connection, workspace)
    return bool(is_updated)
