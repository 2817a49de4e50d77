"""Plays, their versions, and what they name: contents, segments, destinations; and the switches that stop a channel."""

from datetime import datetime
from typing import Literal

import msgspec

from libs.common.db.connection import Connection
from libs.common.db.notifications import notify

DefinitionKind = Literal["content", "segment", "destination"]


class PlayRow(msgspec.Struct, frozen=True):
    """A play's live version. Enrollments keep theirs."""

    workspace: str
    play: str
    number: int
    status: str
    text: str
    author: str
    published_at: datetime


CHANGES_CHANNEL = "orchestrator_changes"
"""Notified of each change of plays, definitions and switches."""


async def get_change_counter(connection: Connection) -> int:
    """Return a number that grows with every change of what this module keeps."""
    found: int = await connection.fetchval(
        "SELECT coalesce(sum(count), 0)::bigint FROM orchestrator.changes"
    )
    return found


async def update_change_counter(connection: Connection, workspace: str) -> None:
    """Let every process read anew."""
    await connection.execute(
        "INSERT INTO orchestrator.changes VALUES ($1, 1) ON CONFLICT (workspace) DO UPDATE SET count = changes.count + 1",
        workspace,
    )
    await notify(connection, CHANGES_CHANNEL)


async def list_live_versions(connection: Connection) -> list[PlayRow]:
    """Return every play with its live version."""
    rows = await connection.fetch(
        "SELECT p.workspace, p.play, p.number, p.status, v.text, v.author, v.published_at FROM orchestrator.plays p "
        "JOIN orchestrator.play_versions v USING (workspace, play, number) ORDER BY p.workspace, p.play"
    )
    return [PlayRow(*r) for r in rows]


async def get_for_update(connection: Connection, workspace: str, play: str) -> PlayRow | None:
    """Return a play with its live version; the play is held until the transaction ends."""
    row = await connection.fetchrow(
        "SELECT p.workspace, p.play, p.number, p.status, v.text, v.author, v.published_at FROM orchestrator.plays p "
        "JOIN orchestrator.play_versions v USING (workspace, play, number) WHERE (p.workspace, p.play) = ($1, $2) "
        "FOR UPDATE OF p",
        workspace,
        play,
    )
    return PlayRow(*row) if row else None


async def get_text(connection: Connection, workspace: str, play: str, number: int) -> str | None:
    """Return a version as it was published."""
    found: str | None = await connection.fetchval(
        "SELECT text FROM orchestrator.play_versions WHERE (workspace, play, number) = ($1, $2, $3)",
        workspace,
        play,
        number,
    )
    return found


async def list_versions_in_use(
    connection: Connection, workspace: str
) -> list[tuple[str, int, str]]:
    """Return (play, number, text) of the versions that are live or paused, or that somebody is in."""
    rows = await connection.fetch(
        "SELECT v.play, v.number, v.text FROM orchestrator.play_versions v WHERE v.workspace = $1 AND ("
        "EXISTS (SELECT FROM orchestrator.plays p WHERE (p.workspace, p.play, p.number) = (v.workspace, v.play, v.number)) OR "
        "EXISTS (SELECT FROM orchestrator.enrollments e WHERE (e.workspace, e.play, e.number) = (v.workspace, v.play, v.number) "
        "AND e.status = 'active')) ORDER BY 1, 2",
        workspace,
    )
    return [(r[0], r[1], r[2]) for r in rows]


async def list_versions(
    connection: Connection, workspace: str, play: str
) -> list[tuple[int, str, datetime]]:
    """Return (number, author, published_at) of a play's versions, newest first."""
    rows = await connection.fetch(
        "SELECT number, author, published_at FROM orchestrator.play_versions WHERE (workspace, play) = ($1, $2) "
        "ORDER BY number DESC",
        workspace,
        play,
    )
    return [(r[0], r[1], r[2]) for r in rows]


async def insert_version(
    connection: Connection, workspace: str, play: str, text: str, author: str
) -> int:
    """Add a version, make it live, and return its number."""
    number: int = await connection.fetchval(
        "INSERT INTO orchestrator.play_versions (workspace, play, number, text, author) SELECT $1, $2, "
        "coalesce(max(number), 0) + 1, $3, $4 FROM orchestrator.play_versions WHERE (workspace, play) = ($1, $2) "
        "RETURNING number",
        workspace,
        play,
        text,
        author,
    )
    await update_live_version(connection, workspace, play, number)
    return number


async def update_live_version(
    connection: Connection, workspace: str, play: str, number: int
) -> None:
    """Make a version the live one; a paused play stays paused."""
    await connection.execute(
        "INSERT INTO orchestrator.plays (workspace, play, number, status) VALUES ($1, $2, $3, 'live') "
        "ON CONFLICT (workspace, play) DO UPDATE SET number = excluded.number",
        workspace,
        play,
        number,
    )
    await update_change_counter(connection, workspace)


async def update_status(connection: Connection, workspace: str, play: str, status: str) -> bool:
    """Pause a play or let it go on; return whether there is one."""
    found = await connection.fetchval(
        "UPDATE orchestrator.plays SET status = $3 WHERE (workspace, play) = ($1, $2) RETURNING true",
        workspace,
        play,
        status,
    )
    await update_change_counter(connection, workspace)
    return bool(found)


async def upsert_definition(
    connection: Connection, workspace: str, kind: DefinitionKind, name: str, text: str, author: str
) -> None:
    """Store a definition in place of the one of that name."""
    await connection.execute(
        "INSERT INTO orchestrator.definitions (workspace, kind, name, text, author) VALUES ($1, $2, $3, $4, $5) "
        "ON CONFLICT (workspace, kind, name) DO UPDATE SET text = excluded.text, author = excluded.author, changed_at = now()",
        workspace,
        kind,
        name,
        text,
        author,
    )
    await update_change_counter(connection, workspace)


async def delete_definition(
    connection: Connection, workspace: str, kind: DefinitionKind, name: str
) -> bool:
    """Remove a definition; return whether there was one."""
    found = await connection.fetchval(
        "DELETE FROM orchestrator.definitions WHERE (workspace, kind, name) = ($1, $2, $3) RETURNING true",
        workspace,
        kind,
        name,
    )
    await update_change_counter(connection, workspace)
    return bool(found)


async def list_definitions(connection: Connection) -> list[tuple[str, DefinitionKind, str, str]]:
    """Return (workspace, kind, name, text) of everything that is defined."""
    rows = await connection.fetch(
        "SELECT workspace, kind, name, text FROM orchestrator.definitions ORDER BY 1, 2, 3"
    )
    return [(r[0], r[1], r[2], r[3]) for r in rows]


async def update_channel_switch(
    connection: Connection, workspace: str, channel: str, author: str, *, stop: bool
) -> None:
    """Stop a channel of a workspace (`*`: all of them), or let it go on."""
    if stop:
        await connection.execute(
            "INSERT INTO orchestrator.switches (workspace, channel, author) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
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
    await update_change_counter(connection, workspace)


async def list_stopped_channels(connection: Connection) -> set[tuple[str, str]]:
    """Return the (workspace, channel) that are stopped."""
    return {
        (r[0], r[1])
        for r in await connection.fetch("SELECT workspace, channel FROM orchestrator.switches")
    }
