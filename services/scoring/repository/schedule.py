"""The frontier, and what is due: timers and re-folds. Candidates are picked without locks; whoever acts looks again."""

from collections.abc import Mapping, Sequence

import msgspec

from libs.common.db.connection import Connection
from libs.common.instants import SECOND
from libs.common.observability import metrics

GRACE = 10 * SECOND


async def upsert_frontier(connection: Connection, reached: Mapping[tuple[str, int], int]) -> None:
    """Note how far each owned partition is known and committed; it never goes back."""
    if reached:
        await connection.execute(
            "INSERT INTO scoring.frontier (topic, partition, reached_at) "
            "SELECT * FROM unnest($1::text[], $2::int[], $3::bigint[]) ON CONFLICT (topic, partition) "
            "DO UPDATE SET reached_at = greatest(frontier.reached_at, excluded.reached_at)",
            [topic for topic, _ in reached],
            [partition for _, partition in reached],
            list(reached.values()),
        )


async def get_frontier(connection: Connection, partitions: int) -> int | None:
    """Return the instant up to which timers may fire, or None while a partition has no row."""
    least: int | None = await connection.fetchval(
        "SELECT min(reached_at) FROM scoring.frontier HAVING count(*) >= $1", partitions
    )
    return None if least is None else least - GRACE


async def list_due_contacts(
    connection: Connection, folds: Sequence[str], until: int, limit: int
) -> list[str]:
    """Return contacts with a timer of these folds due at or before `until` that do not wait for a re-fold."""
    rows = await connection.fetch(
        "SELECT contact_id FROM scoring.timers t WHERE due_at <= $1 AND fold = ANY($3::text[]) AND NOT EXISTS "
        "(SELECT FROM scoring.refolds r WHERE r.contact_id = t.contact_id) ORDER BY due_at LIMIT $2",
        until,
        limit,
        list(folds),
    )
    return sorted({r[0] for r in rows})


class WaitingRefolds(msgspec.Struct, frozen=True):
    """Contacts that wait for one reason, and since when the first of them does, in seconds."""

    contacts: int
    seconds: float


async def count_waiting_refolds(connection: Connection) -> dict[str, WaitingRefolds]:
    """Return the re-fold queue by reason."""
    rows = await connection.fetch(
        "SELECT reason, count(*), extract(epoch FROM now() - min(queued_at))::float FROM scoring.refolds "
        "GROUP BY reason ORDER BY reason"
    )
    return {r[0]: WaitingRefolds(r[1], r[2]) for r in rows}


async def count_fold_errors(connection: Connection) -> int:
    """Return how many folds are marked as raising."""
    found: int = await connection.fetchval("SELECT count(*) FROM scoring.fold_errors")
    return found


async def list_queued_refolds(connection: Connection, limit: int) -> list[str]:
    """Return queued contacts, oldest first.

    A contact whose history is still arriving is left alone for two seconds after the last touchpoint, for a minute at
    most: one re-fold for many touchpoints, not one each. One whose fold raised is tried again every minute.
    """
    rows = await connection.fetch(
        "SELECT contact_id FROM scoring.refolds WHERE CASE reason "
        "WHEN 'history' THEN touched_at < now() - interval '2 s' OR queued_at < now() - interval '60 s' "
        "WHEN 'fold_error' THEN queued_at < now() - interval '60 s' ELSE true END ORDER BY queued_at LIMIT $1",
        limit,
    )
    return [r[0] for r in rows]


async def collect_gauges(connection: Connection) -> None:
    """Look at what waits to be folded again, and at folds that raised."""
    metrics.REFOLDS_WAITING.set(await connection.fetchval("SELECT count(*) FROM scoring.refolds"))
    metrics.FOLD_ERRORS_OPEN.set(
        await connection.fetchval("SELECT count(*) FROM scoring.fold_errors")
    )
