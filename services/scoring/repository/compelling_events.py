"""Compelling events, each with the instant of its next reminder or expiry (`next_at`)."""

from collections.abc import Collection, Sequence

import msgspec

from libs.common.db.connection import Connection
from libs.common.db.notifications import notify
from libs.common.ids import WorkspaceId
from libs.common.instants import SECOND
from services.scoring.domain.compelling_event import TrackedEvent, next_due_at

EVENTS_CHANNEL = "scoring_compelling_events"
"""Notified when events are written: they may be due first."""
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(TrackedEvent).decode


async def upsert_events(connection: Connection, events: Sequence[TrackedEvent]) -> None:
    """Insert events, or overwrite the stored ones of the same id."""
    if not events:
        return
    await connection.executemany(
        "INSERT INTO scoring.compelling_events "
        "(workspace, event_id, subject, standing, next_at, event) "
        "VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (workspace, event_id) DO UPDATE "
        "SET subject = excluded.subject, "
        "standing = excluded.standing, next_at = excluded.next_at, event = excluded.event",
        [
            (e.workspace, e.event_id, e.subject, e.standing, next_due_at(e), _encode(e).decode())
            for e in events
        ],
    )
    await notify(connection, EVENTS_CHANNEL)


async def get_for_update(
    connection: Connection, workspace: WorkspaceId, ids: Collection[str]
) -> dict[str, TrackedEvent]:
    """Lock the events in id order and return them by id; ids without an event are left out."""
    rows = await connection.fetch(
        "SELECT event FROM scoring.compelling_events "
        "WHERE workspace = $1 AND event_id = ANY($2::text[]) "
        "ORDER BY event_id FOR UPDATE",
        workspace,
        list(ids),
    )
    return {event.event_id: event for event in (_decode(r[0]) for r in rows)}


async def lock_due(connection: Connection, now: int, limit: int) -> list[TrackedEvent]:
    """Lock and return events with a reminder or expiry due at `now`, the most overdue first.

    Rows locked by another process are skipped.
    """
    rows = await connection.fetch(
        "SELECT event FROM scoring.compelling_events WHERE next_at <= $1 "
        "ORDER BY next_at LIMIT $2 FOR UPDATE SKIP LOCKED",
        now,
        limit,
    )
    return [_decode(r[0]) for r in rows]


async def get_seconds_until_due(connection: Connection, now: int) -> float | None:
    """Return the seconds until the first event is due, or None."""
    next_at: int | None = await connection.fetchval(
        "SELECT min(next_at) FROM scoring.compelling_events WHERE next_at IS NOT NULL"
    )
    return None if next_at is None else (next_at - now) / SECOND


async def list_open(
    connection: Connection, workspace: WorkspaceId, subject: str | None, limit: int
) -> list[TrackedEvent]:
    """Return a workspace's open events (of one subject, or of all), the nearest `next_at` first."""
    rows = await connection.fetch(
        "SELECT event FROM scoring.compelling_events WHERE workspace = $1 AND standing = 'open' "
        "AND ($2::text IS NULL OR subject = $2) ORDER BY next_at NULLS LAST, event_id LIMIT $3",
        workspace,
        subject,
        limit,
    )
    return [_decode(r[0]) for r in rows]
