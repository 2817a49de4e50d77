"""Members of watched segments, with the instant of their entry."""

from collections.abc import Collection, Sequence

from libs.common.db.connection import Connection
from libs.common.ids import ContactId, WorkspaceId
from services.orchestrator.repository.sweeps import SEGMENT_PREFIX


def first_sweep_mark(mark: str) -> str:
    """Return the mark of the first sweep after a segment's condition was written.

    Contacts that are members by then are stored, but their entry is not announced.
    """
    return f"first:{mark}"


async def list_of_contacts(
    connection: Connection,
    workspace: WorkspaceId,
    segments: Collection[str],
    contacts: Collection[ContactId],
) -> list[tuple[str, ContactId, int]]:
    """Return (segment, contact, since in µs UTC) of contacts."""
    rows = await connection.fetch(
        "SELECT segment, contact_id, since FROM orchestrator.segment_members "
        "WHERE workspace = $1 AND segment = ANY($2::text[]) AND contact_id = ANY($3::text[])",
        workspace,
        list(segments),
        list(contacts),
    )
    return [(r[0], r[1], r[2]) for r in rows]


async def upsert_members(
    connection: Connection, workspace: WorkspaceId, rows: Sequence[tuple[str, ContactId, int]]
) -> None:
    """Insert (segment, contact, since); of a stored member the earlier instant stays."""
    await connection.executemany(
        "INSERT INTO orchestrator.segment_members AS m VALUES ($1, $2, $3, $4) "
        "ON CONFLICT (workspace, segment, contact_id) "
        "DO UPDATE SET since = least(m.since, excluded.since)",
        [(workspace, *row) for row in rows],
    )


async def delete_members(
    connection: Connection, workspace: WorkspaceId, rows: Sequence[tuple[str, ContactId]]
) -> None:
    """Delete (segment, contact)."""
    await connection.executemany(
        "DELETE FROM orchestrator.segment_members WHERE (workspace, segment, contact_id) = ($1, "
        "$2, $3)",
        [(workspace, segment, contact) for segment, contact in rows],
    )


async def delete_segment(connection: Connection, workspace: WorkspaceId, segment: str) -> None:
    """Delete the members and the sweep marks of a segment."""
    await connection.execute(
        "DELETE FROM orchestrator.segment_members WHERE (workspace, segment) = ($1, $2)",
        workspace,
        segment,
    )
    await delete_sweep_marks(connection, workspace, segment)


async def delete_sweep_marks(
    connection: Connection, workspace: WorkspaceId, segment: str, except_mark: str = ""
) -> None:
    """Delete the marks of a segment's sweeps, except the mark of its current condition."""
    name = f"{SEGMENT_PREFIX}{segment}"
    await connection.execute(
        "DELETE FROM orchestrator.ticks WHERE (workspace, play) = ($1, $2) AND slot <> $3",
        workspace,
        name,
        except_mark,
    )
    await connection.execute(
        "DELETE FROM orchestrator.sweeps WHERE (workspace, play) = ($1, $2) "
        "AND event_id <> ALL($3::text[])",
        workspace,
        name,
        [except_mark, first_sweep_mark(except_mark)],
    )


async def list_swept(
    connection: Connection, workspace: WorkspaceId, marks: Collection[tuple[str, str]]
) -> set[str]:
    """Return the segments of (segment, mark) after their first sweep with that mark."""
    rows = await connection.fetch(
        "SELECT w.segment FROM unnest($2::text[], $3::text[]) AS w (segment, mark) "
        "JOIN orchestrator.ticks t "
        "ON (t.workspace, t.play, t.slot) = ($1, $4 || w.segment, w.mark) WHERE t.count > 0 "
        "AND NOT EXISTS ("
        "SELECT FROM orchestrator.sweeps s WHERE (s.workspace, s.play, s.event_id) = ($1, t.play, "
        "'first:' || w.mark))",
        workspace,
        [segment for segment, _ in marks],
        [mark for _, mark in marks],
        SEGMENT_PREFIX,
    )
    return {r[0] for r in rows}


async def list_members(
    connection: Connection, workspace: WorkspaceId, segment: str, limit: int
) -> list[tuple[ContactId, int]]:
    """Return (contact, since) of a segment, the longest member first, by canonical ids."""
    rows = await connection.fetch(
        "SELECT coalesce(p.merged_into, m.contact_id), min(since) "
        "FROM orchestrator.segment_members m "
        "LEFT JOIN scoring.contact_profiles p USING (contact_id) "
        "WHERE (m.workspace, segment) = ($1, $2) "
        "GROUP BY 1 ORDER BY 2, 1 LIMIT $3",
        workspace,
        segment,
        limit,
    )
    return [(r[0], r[1]) for r in rows]


async def count_members(connection: Connection, workspace: WorkspaceId) -> dict[str, int]:
    """Return the number of members by segment."""
    rows = await connection.fetch(
        "SELECT segment, count(DISTINCT coalesce(p.merged_into, m.contact_id)) "
        "FROM orchestrator.segment_members m "
        "LEFT JOIN scoring.contact_profiles p USING (contact_id) WHERE m.workspace = $1 GROUP BY 1",
        workspace,
    )
    return {r[0]: r[1] for r in rows}
