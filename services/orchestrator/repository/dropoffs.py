"""Drop-offs: stages that contacts fell back from and have not regained."""

from collections.abc import Sequence

from libs.common.db.connection import Connection
from libs.common.ids import ContactId, WorkspaceId

_IS_CANONICAL = (
    "NOT EXISTS (SELECT FROM scoring.contact_profiles p "
    "WHERE p.contact_id = {}.contact_id AND p.merged_into IS NOT NULL)"
)
"""Leaves out merged contacts: the survivor has its own drop-offs."""


async def upsert_dropoffs(
    connection: Connection, rows: Sequence[tuple[str, str, str, str, int]]
) -> None:
    """Insert (contact, cycle, stage, workspace, instant in µs UTC); of a stage the last counts."""
    await connection.executemany(
        "INSERT INTO orchestrator.falls VALUES ($1, $2, $3, $4, $5) "
        "ON CONFLICT (contact_id, cycle, stage) "
        "DO UPDATE SET fell_at = greatest(falls.fell_at, excluded.fell_at)",
        rows,
    )


async def delete_dropoffs(
    connection: Connection, contact: ContactId, cycle: str, stages: Sequence[str], at: int
) -> None:
    """Delete drop-offs from stages that a contact has regained at an instant (µs UTC)."""
    await connection.execute(
        "DELETE FROM orchestrator.falls WHERE (contact_id, cycle) = ($1, $2) "
        "AND stage = ANY($3::text[]) AND fell_at <= $4",
        contact,
        cycle,
        list(stages),
        at,
    )


async def count_groups(
    connection: Connection, workspace: WorkspaceId, cycle: str
) -> list[tuple[list[str], int]]:
    """Return (stages, number of contacts that fell from exactly these)."""
    rows = await connection.fetch(
        "SELECT stages, count(*) FROM (SELECT array_agg(stage ORDER BY stage) AS stages "
        "FROM orchestrator.falls f "
        f"WHERE (workspace, cycle) = ($1, $2) AND {_IS_CANONICAL.format('f')} "
        "GROUP BY contact_id) g GROUP BY 1",
        workspace,
        cycle,
    )
    return [(r[0], r[1]) for r in rows]


async def list_audience(
    connection: Connection,
    workspace: WorkspaceId,
    cycle: str,
    pair: tuple[str, str],
    after: str,
    limit: int,
) -> list[tuple[ContactId, int]]:
    """Return the next (contact, instant) that fell from the first stage only, by contact id."""
    rows = await connection.fetch(
        "SELECT contact_id, fell_at FROM orchestrator.falls a "
        "WHERE (workspace, cycle, stage) = ($1, $2, $3) "
        f"AND contact_id > $5 AND {_IS_CANONICAL.format('a')} AND NOT EXISTS (SELECT "
        "FROM orchestrator.falls b "
        "WHERE (b.contact_id, b.cycle, b.stage) = (a.contact_id, a.cycle, $4)) "
        "ORDER BY contact_id LIMIT $6",
        workspace,
        cycle,
        *pair,
        after,
        limit,
    )
    return [(r[0], r[1]) for r in rows]
