"""Who is in which watched segment, since when."""

from collections.abc import Collection, Sequence

from libs.common.db.connection import Connection

FIRST = "first"
"""Marks the first sweep of a segment: who is in it by then has not come into it."""


async def of_contacts(
    connection: Connection, workspace: str, segments: Collection[str], contacts: Collection[str]
) -> list[tuple[str, str, int]]:
    """Return (segment, contact, since) of contacts."""
    rows = await connection.fetch(
        "SELECT segment, contact_id, since FROM orchestrator.segment_members "
        "WHERE workspace = $1 AND segment = ANY($2::text[]) AND contact_id = ANY($3::text[])",
        workspace,
        list(segments),
        list(contacts),
    )
    return [(r[0], r[1], r[2]) for r in rows]


async def join(connection: Connection, workspace: str, rows: Sequence[tuple[str, str]], since: int) -> None:
    """Note (segment, contact) of who comes."""
    await connection.executemany(
        "INSERT INTO orchestrator.segment_members VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        [(workspace, segment, contact, since) for segment, contact in rows],
    )


async def leave(connection: Connection, workspace: str, rows: Sequence[tuple[str, str]]) -> None:
    """Forget (segment, contact) of who leaves."""
    await connection.executemany(
        "DELETE FROM orchestrator.segment_members WHERE (workspace, segment, contact_id) = ($1, $2, $3)",
        [(workspace, segment, contact) for segment, contact in rows],
    )


async def forget(connection: Connection, workspace: str, segment: str) -> None:
    """Forget everybody in a segment that is no more."""
    await connection.execute(
        "DELETE FROM orchestrator.segment_members WHERE (workspace, segment) = ($1, $2)", workspace, segment
    )


async def known(connection: Connection, workspace: str, marks: Collection[tuple[str, str]]) -> set[str]:
    """Return those of the (segment, mark) that everybody was looked at for once."""
    rows = await connection.fetch(
        "SELECT t.play, t.slot FROM orchestrator.ticks t WHERE t.workspace = $1 AND t.play = ANY($2::text[]) AND t.count > 0 "
        "AND NOT EXISTS (SELECT FROM orchestrator.sweeps s WHERE (s.workspace, s.play, s.event_id) "
        "= (t.workspace, t.play, $3))",
        workspace,
        [segment for segment, _ in marks],
        FIRST,
    )
    return {r[0] for r in rows} & {
        segment for segment, mark in marks if (segment, mark) in {(r[0], r[1]) for r in rows}
    }


async def members(connection: Connection, workspace: str, segment: str, limit: int) -> list[tuple[str, int]]:
    """Return (contact, since) of a segment, who came first first; merged contacts are part of their survivor."""
    rows = await connection.fetch(
        "SELECT contact_id, since FROM orchestrator.segment_members m WHERE (workspace, segment) = ($1, $2) "
        "AND NOT EXISTS (SELECT FROM scoring.contact_profiles p WHERE p.contact_id = m.contact_id "
        "AND p.merged_into IS NOT NULL) ORDER BY since, contact_id LIMIT $3",
        workspace,
        segment,
        limit,
    )
    return [(r[0], r[1]) for r in rows]


async def sizes(connection: Connection, workspace: str) -> dict[str, int]:
    """Return how many are in each segment."""
    rows = await connection.fetch(
        "SELECT segment, count(*) FROM orchestrator.segment_members WHERE workspace = $1 GROUP BY 1", workspace
    )
    return {r[0]: r[1] for r in rows}
