"""The frontier, due timers and queued re-folds.

Candidates are read without locks; the caller locks them and reads them again before it acts.
"""

from collections.abc import Mapping, Sequence

import msgspec

from libs.common.db.connection import Connection
from libs.common.ids import ContactId
from libs.common.instants import SECOND
from libs.common.observability import metrics

GRACE = 10 * SECOND
"""Distance of the frontier behind the slowest partition."""
_READY_AT = (
    "CASE reason WHEN 'history' "
    "THEN least(touched_at + interval '2 s', queued_at + interval '60 s') "
    "WHEN 'fold_error' THEN queued_at + interval '60 s' ELSE queued_at END"
)
"""Instant from which a queued contact may be folded; see `list_queued_refolds`."""


async def upsert_frontier(connection: Connection, reached: Mapping[tuple[str, int], int]) -> bool:
    """Advance the instant up to which each owned partition is committed; it never decreases.

    `reached` is {(topic, partition): instant in microseconds UTC}. Return whether a timer is due at
    the frontier: only this statement moves the frontier, so no job has to poll for due timers.
    """
    if not reached:
        return False
    return bool(
        await connection.fetchval(
            "WITH moved AS (INSERT INTO scoring.frontier (topic, partition, reached_at) "
            "SELECT * FROM unnest($1::text[], $2::int[], $3::bigint[]) "
            "ON CONFLICT (topic, partition) DO UPDATE "
            "SET reached_at = greatest(frontier.reached_at, excluded.reached_at) "
            "RETURNING topic, partition, reached_at) "
            "SELECT (SELECT min(due_at) FROM scoring.timers) "
            "<= min(coalesce(m.reached_at, f.reached_at)) - $4 "
            "FROM scoring.frontier f LEFT JOIN moved m USING (topic, partition)",
            [topic for topic, _ in reached],
            [partition for _, partition in reached],
            list(reached.values()),
            GRACE,
        )
    )


async def get_frontier(connection: Connection, partitions: int) -> int | None:
    """Return the instant up to which timers may fire, or None while a partition has no row.

    This is the smallest instant over all partitions, less GRACE.
    """
    smallest: int | None = await connection.fetchval(
        "SELECT min(reached_at) FROM scoring.frontier HAVING count(*) >= $1", partitions
    )
    return None if smallest is None else smallest - GRACE


async def list_due_contacts(
    connection: Connection, folds: Sequence[str], until: int, limit: int
) -> list[ContactId]:
    """Return contacts (or accounts) with a timer of these folds due at or before `until`.

    Subjects in the re-fold queue are left out: none of their timers fires until they are folded.
    """
    rows = await connection.fetch(
        "SELECT contact_id FROM scoring.timers t "
        "WHERE due_at <= $1 AND fold = ANY($3::text[]) AND NOT EXISTS "
        "(SELECT FROM scoring.refolds r WHERE r.contact_id = t.contact_id) "
        "ORDER BY due_at LIMIT $2",
        until,
        limit,
        list(folds),
    )
    return sorted({r[0] for r in rows})


class WaitingRefolds(msgspec.Struct, frozen=True):
    """Number of contacts queued for one reason, and the age of the oldest entry in seconds."""

    contacts: int
    seconds: float


async def count_waiting_refolds(connection: Connection) -> dict[str, WaitingRefolds]:
    """Return the size and age of the re-fold queue by reason."""
    rows = await connection.fetch(
        "SELECT reason, count(*), extract(epoch FROM now() - min(queued_at))::float "
        "FROM scoring.refolds GROUP BY reason ORDER BY reason"
    )
    return {r[0]: WaitingRefolds(r[1], r[2]) for r in rows}


async def count_fold_errors(connection: Connection) -> int:
    """Return the number of folds with a stored error."""
    count: int = await connection.fetchval("SELECT count(*) FROM scoring.fold_errors")
    return count


async def list_queued_refolds(connection: Connection, limit: int) -> list[ContactId]:
    """Return queued contacts that are ready, oldest first.

    A contact with reason `history` is ready two seconds after its last touchpoint, or a minute
    after it was queued, so that many touchpoints take one re-fold. A contact with reason
    `fold_error` is ready a minute after it was queued.
    """
    rows = await connection.fetch(
        f"SELECT contact_id FROM scoring.refolds WHERE {_READY_AT} <= now() "
        "ORDER BY queued_at LIMIT $1",
        limit,
    )
    return [r[0] for r in rows]


async def get_seconds_until_refold(connection: Connection) -> float | None:
    """Return the seconds until the first queued contact may be folded, or None."""
    seconds: float | None = await connection.fetchval(
        f"SELECT extract(epoch FROM min({_READY_AT}) - now())::float FROM scoring.refolds"
    )
    return seconds


async def collect_gauges(connection: Connection) -> None:
    """Set the gauges of queued re-folds and stored fold errors."""
    metrics.REFOLDS_WAITING.set(await connection.fetchval("SELECT count(*) FROM scoring.refolds"))
    metrics.FOLD_ERRORS_OPEN.set(
        await connection.fetchval("SELECT count(*) FROM scoring.fold_errors")
    )
