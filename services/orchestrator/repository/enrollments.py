"""Enrollments of contacts in plays."""

from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from libs.common.db.connection import Connection
from libs.common.db.notifications import notify, with_notification
from libs.common.ids import ContactId, WorkspaceId
from libs.common.instants import SECOND
from services.orchestrator.domain.enrollment import Enrollment
from services.orchestrator.domain.enrollment_entry import PastEnrollment

_COLUMNS = (
    "enrollment_id", "workspace", "contact_id", "play", "number", "cause", "entered_at", "event",
    "status", "reason", "place", "since", "due_at", "goal_at",
)  # fmt: skip
ENROLLMENTS_CHANNEL = "orchestrator_enrollments"
"""Notified when enrollments are inserted or updated: they may be due first."""
PAUSED = 1 << 60
"""Offset of the due instants of enrollments while their play is paused (µs)."""
_TYPES = (
    "text[]", "text[]", "text[]", "text[]", "int[]", "text[]", "bigint[]", "text[]",
    "text[]", "text[]", "int[]", "bigint[]", "bigint[]", "bigint[]",
)  # fmt: skip


async def insert_enrollments(
    connection: Connection, enrollments: Sequence[tuple[Enrollment, int]]
) -> set[str]:
    """Insert (enrollment, watched until in µs UTC); return the ids that were not stored yet."""
    if not enrollments:
        return set()
    columns = list(zip(*(_to_row(enrollment) for enrollment, _ in enrollments), strict=True))
    types = [f"${number}::{kind}" for number, kind in enumerate(_TYPES, 1)]
    rows = await connection.fetch(
        f"INSERT INTO orchestrator.enrollments ({', '.join(_COLUMNS)}, watched_until, event_id) "
        f"SELECT * FROM unnest({', '.join(types)}, $15::bigint[], $16::text[]) "
        "ON CONFLICT DO NOTHING RETURNING enrollment_id",
        *map(list, columns),
        [watched_until for _, watched_until in enrollments],
        [str(enrollment.event.get("event_id", "")) for enrollment, _ in enrollments],
    )
    if any(enrollment.due_at is not None for enrollment, _ in enrollments):
        await notify(connection, ENROLLMENTS_CHANNEL)
    return {r[0] for r in rows}


async def update_enrollments(connection: Connection, enrollments: Sequence[Enrollment]) -> None:
    """Store the progress of enrollments."""
    if enrollments:
        statement = (
            "UPDATE orchestrator.enrollments e SET status = n.status, reason = n.reason, "
            "place = n.place, since = n.since, due_at = n.due_at, goal_at = n.goal_at "
            "FROM unnest($1::text[], $2::text[], $3::text[], $4::int[], $5::bigint[], "
            "$6::bigint[], $7::bigint[]) AS n (id, status, reason, place, since, due_at, goal_at) "
            "WHERE e.enrollment_id = n.id"
        )
        await connection.execute(
            with_notification(statement, ENROLLMENTS_CHANNEL),
            *map(
                list,
                zip(
                    *(
                        (r.enrollment_id, r.status, r.reason, r.place, r.since, r.due_at, r.goal_at)
                        for r in enrollments
                    ),
                    strict=True,
                ),
            ),
        )


async def get_seconds_until_due(connection: Connection, now: int) -> float | None:
    """Return the seconds until the first active enrollment is due, or None."""
    due_at: int | None = await connection.fetchval(
        "SELECT min(due_at) FROM orchestrator.enrollments WHERE status = 'active'"
    )
    return None if due_at is None else (due_at - now) / SECOND


async def list_due_contacts(connection: Connection, now: int, limit: int) -> list[ContactId]:
    """Return the contacts of due enrollments, the longest due first; nothing is locked."""
    rows = await connection.fetch(
        "SELECT contact_id FROM orchestrator.enrollments WHERE status = 'active' "
        "AND due_at <= $1 ORDER BY due_at LIMIT $2",
        now,
        limit,
    )
    return list(dict.fromkeys(r[0] for r in rows))


async def update_paused(
    connection: Connection, workspace: WorkspaceId, play: str, *, on: bool
) -> None:
    """Shift the due instants of a play's enrollments beyond all time, or back."""
    shift, where = (PAUSED, "<") if on else (-PAUSED, ">=")
    statement = (
        "UPDATE orchestrator.enrollments SET due_at = due_at + $3 "
        f"WHERE (workspace, play) = ($1, $2) AND status = 'active' AND due_at {where} $4"
    )
    await connection.execute(
        with_notification(statement, ENROLLMENTS_CHANNEL), workspace, play, shift, PAUSED
    )


async def list_due(
    connection: Connection, contacts: Collection[ContactId], now: int, paused: Collection[str]
) -> list[Enrollment]:
    """Return the due enrollments of contacts, without those of paused plays."""
    rows = await connection.fetch(
        f"SELECT {', '.join(_COLUMNS)} FROM orchestrator.enrollments WHERE status = 'active' "
        "AND due_at <= $1 "
        "AND contact_id = ANY($2::text[]) AND NOT (workspace || ':' || play = ANY($3::text[])) "
        "ORDER BY due_at, enrollment_id",
        now,
        list(contacts),
        list(paused),
    )
    return [_from_row(r) for r in rows]


async def list_watched(
    connection: Connection, contacts: Collection[ContactId], now: int
) -> list[Enrollment]:
    """Return the enrollments of contacts that events may end, advance or bring to their goal."""
    rows = await connection.fetch(
        f"SELECT {', '.join(_COLUMNS)} FROM orchestrator.enrollments e "
        "WHERE contact_id = ANY($1::text[]) "
        "AND (status = 'active' OR watched_until >= $2 OR EXISTS (SELECT "
        "FROM orchestrator.actions a "
        "WHERE a.enrollment_id = e.enrollment_id AND a.status IN ('pending', 'held')))",
        list(contacts),
        now,
    )
    return [_from_row(r) for r in rows]


async def get_by_ids(connection: Connection, ids: Collection[str]) -> dict[str, Enrollment]:
    """Return enrollments by id."""
    rows = await connection.fetch(
        f"SELECT {', '.join(_COLUMNS)} FROM orchestrator.enrollments "
        "WHERE enrollment_id = ANY($1::text[])",
        list(ids),
    )
    return {r["enrollment_id"]: _from_row(r) for r in rows}


async def list_of_events(connection: Connection, ids: Collection[str]) -> list[Enrollment]:
    """Return the enrollments that compelling events started and that may still act."""
    rows = await connection.fetch(
        f"SELECT {', '.join(_COLUMNS)} FROM orchestrator.enrollments e WHERE event_id <> '' "
        "AND event_id = ANY($1::text[]) "
        "AND (status = 'active' OR EXISTS (SELECT FROM orchestrator.actions a "
        "WHERE a.enrollment_id = e.enrollment_id "
        "AND a.status IN ('pending', 'held'))) ORDER BY enrollment_id",
        list(ids),
    )
    return [_from_row(r) for r in rows]


async def list_of_contacts(
    connection: Connection, contacts: Collection[ContactId], limit: int
) -> list[Enrollment]:
    """Return the enrollments of contacts, the newest first."""
    rows = await connection.fetch(
        f"SELECT {', '.join(_COLUMNS)} FROM orchestrator.enrollments "
        "WHERE contact_id = ANY($1::text[]) "
        "ORDER BY entered_at DESC LIMIT $2",
        list(contacts),
        limit,
    )
    return [_from_row(r) for r in rows]


async def list_past(
    connection: Connection, contacts: Collection[ContactId], plays: Collection[str]
) -> dict[tuple[str, str], list[PastEnrollment]]:
    """Return the enrollments of contacts in plays by (canonical contact id, play)."""
    rows = await connection.fetch(
        "SELECT coalesce(c.merged_into, e.contact_id), e.play, e.entered_at, e.status "
        "FROM orchestrator.enrollments e "
        "LEFT JOIN scoring.contact_profiles c ON c.contact_id = e.contact_id "
        "WHERE e.play = ANY($2::text[]) "
        "AND e.contact_id IN (SELECT unnest($1::text[]) UNION "
        "SELECT contact_id FROM scoring.contact_profiles WHERE merged_into = ANY($1::text[]))",
        list(contacts),
        list(plays),
    )
    past: dict[tuple[str, str], list[PastEnrollment]] = {}
    for contact, play, entered_at, status in rows:
        past.setdefault((contact, play), []).append(PastEnrollment(entered_at, status))
    return past


async def count_by_play_since(
    connection: Connection, workspace: WorkspaceId, since: int
) -> dict[str, tuple[int, int, int]]:
    """Return {play: (entries, reached goals, held out)} since an instant (µs UTC)."""
    rows = await connection.fetch(
        "SELECT play, count(*) FILTER (WHERE status <> 'holdout'), count(goal_at) FILTER (WHERE "
        "status <> 'holdout'), "
        "count(*) FILTER (WHERE status = 'holdout') FROM orchestrator.enrollments "
        "WHERE workspace = $1 AND entered_at >= $2 GROUP BY play",
        workspace,
        since,
    )
    return {r[0]: (r[1], r[2], r[3]) for r in rows}


async def count_by_status(
    connection: Connection, workspace: WorkspaceId, play: str
) -> list[tuple[int, str, int, int, int]]:
    """Return (version, status, enrollments, reached goals, first entry in µs UTC) of a play."""
    rows = await connection.fetch(
        "SELECT number, status, count(*), count(goal_at), min(entered_at) "
        "FROM orchestrator.enrollments "
        "WHERE (workspace, play) = ($1, $2) GROUP BY 1, 2 ORDER BY 1, 2",
        workspace,
        play,
    )
    return [(r[0], r[1], r[2], r[3], r[4]) for r in rows]


def _to_row(enrollment: Enrollment) -> tuple[Any, ...]:
    fields = msgspec.structs.asdict(enrollment)
    fields["event"] = msgspec.json.encode(enrollment.event).decode()
    return tuple(fields[name] for name in _COLUMNS)


def _from_row(row: Any) -> Enrollment:
    fields = dict(row)
    fields["event"] = msgspec.json.decode(fields["event"])
    return Enrollment(**fields)
