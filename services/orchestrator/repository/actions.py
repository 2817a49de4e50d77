"""Action ledger: actions with their reservations and outcomes."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from libs.common.db.connection import Connection
from libs.common.db.notifications import notify, with_notification
from libs.common.ids import ContactId, WorkspaceId
from libs.common.messages.action import ActionStatus, Outcome
from libs.common.observability import metrics

ACTIONS_CHANNEL = "orchestrator_actions"
"""Notified when actions are inserted or updated: they may be due first."""
LEASE_US = 300_000_000
"""Time for a reserved attempt (µs), well above the sum of a channel's time-outs.

After it the attempt's outcome is unknown.
"""
_COLUMNS = (
    "action_id, enrollment_id, workspace, contact_id, play, step, channel, destination, status, "
    "cause, due_at, attempts, priority, content, counted_day, reason"
)
_OPEN = "status IN ('pending', 'held', 'sending')"


class DispatchLane(NamedTuple):
    """Actions that are sent one batch after another; other lanes go on beside it."""

    channel: str
    destination: str


class ActionRow(msgspec.Struct, frozen=True):
    """An action of the ledger; `due_at` in µs UTC."""

    action_id: str
    enrollment_id: str
    workspace: WorkspaceId
    contact_id: ContactId
    play: str
    step: str
    channel: str
    destination: str
    status: str
    cause: str
    due_at: int
    attempts: int = 0
    priority: int = 0
    content: str = ""
    counted_day: int = 0
    """The UTC day (since 1970) on which the action was counted against the caps; 0 for none."""
    reason: str = "decided"


class ActionOutcome(msgspec.Struct, frozen=True):
    """The new status of an action.

    `due` is the instant (µs UTC) at which a pending, held or sending action is decided again.
    """

    status: ActionStatus
    reason: str
    due: int = 0
    attempt: int = 0
    content: str = ""
    outcome: Outcome | None = None
    counted_day: int = 0
    data: Mapping[str, Any] = {}
    """Data of the published message for external executors."""
    until: int | None = None
    """Instant at which a held action may be sent; None if an operator has to release it."""


async def insert_actions(connection: Connection, rows: Sequence[ActionRow], now: int) -> None:
    """Insert pending actions; stored ones stay unchanged."""
    if rows:
        await connection.executemany(
            f"INSERT INTO orchestrator.actions ({_COLUMNS}, decided_at) "
            "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17) "
            "ON CONFLICT DO NOTHING",
            [(*msgspec.structs.astuple(row), now) for row in rows],
        )
        await notify(connection, ACTIONS_CHANNEL)


async def get_lanes(connection: Connection) -> dict[DispatchLane, int]:
    """Return {(channel, destination): instant at which its first open action is due (µs UTC)}."""
    rows = await connection.fetch(
        "WITH RECURSIVE lane AS ("
        f"(SELECT channel, destination FROM orchestrator.actions WHERE {_OPEN} "
        "ORDER BY 1, 2 LIMIT 1) UNION ALL "
        "SELECT n.* FROM lane, LATERAL (SELECT channel, destination FROM orchestrator.actions "
        f"WHERE {_OPEN} AND (channel, destination) > (lane.channel, lane.destination) "
        "ORDER BY 1, 2 LIMIT 1) n) "
        "SELECT channel, destination, (SELECT min(due_at) FROM orchestrator.actions a "
        "WHERE (a.channel, a.destination) = (lane.channel, lane.destination) "
        f"AND {_OPEN}) FROM lane"
    )
    return {DispatchLane(r[0], r[1]): r[2] for r in rows}


async def list_due_contacts(
    connection: Connection, lane: DispatchLane, now: int, limit: int
) -> list[ContactId]:
    """Return the contacts of a lane's due actions, the longest due first; nothing is locked."""
    rows = await connection.fetch(
        "SELECT contact_id FROM orchestrator.actions "
        f"WHERE (channel, destination) = ($1, $2) AND {_OPEN} AND due_at <= $3 "
        "ORDER BY due_at LIMIT $4",
        *lane,
        now,
        limit,
    )
    return list(dict.fromkeys(r[0] for r in rows))


async def list_due_actions(
    connection: Connection, lane: DispatchLane, contacts: Collection[ContactId], now: int
) -> list[ActionRow]:
    """Return the due actions of contacts on a lane in order of priority."""
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM orchestrator.actions "
        f"WHERE (channel, destination) = ($1, $2) AND {_OPEN} AND due_at <= $3 "
        "AND contact_id = ANY($4::text[]) ORDER BY priority DESC, due_at, action_id",
        *lane,
        now,
        list(contacts),
    )
    return [ActionRow(*r) for r in rows]


async def list_open(connection: Connection, enrollments: Collection[str]) -> list[ActionRow]:
    """Return the pending and held actions of enrollments."""
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM orchestrator.actions WHERE enrollment_id = ANY($1::text[]) "
        "AND status IN ('pending', 'held') ORDER BY action_id",
        list(enrollments),
    )
    return [ActionRow(*r) for r in rows]


async def list_unfinished_audience_actions(
    connection: Connection, enrollments: Collection[str]
) -> dict[str, list[ActionRow]]:
    """Return the ad-audience actions by enrollment that are open, or failed and may be retried."""
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM orchestrator.actions WHERE enrollment_id = ANY($1::text[]) "
        f"AND channel = 'audience' AND ({_OPEN} OR status = 'failed')",
        list(enrollments),
    )
    unfinished: dict[str, list[ActionRow]] = {}
    for row in rows:
        unfinished.setdefault(row["enrollment_id"], []).append(ActionRow(*row))
    return unfinished


async def update_outcomes(
    connection: Connection, outcomes: Sequence[tuple[str, ActionOutcome]], now: int
) -> None:
    """Store (action id, outcome); the outcome of an attempt that was given up is ignored."""
    if outcomes:
        rows = [
            (
                action_id,
                o.status,
                o.reason[:300],
                o.due,
                o.attempt,
                o.content,
                o.counted_day,
                o.outcome is not None,
            )
            for action_id, o in outcomes
        ]
        statement = (
            "UPDATE orchestrator.actions a SET status = n.status, reason = n.reason, "
            "due_at = n.due, decided_at = $9, attempts = greatest(a.attempts, n.attempts), "
            "content = coalesce(nullif(n.content, ''), a.content), "
            "counted_day = greatest(a.counted_day, n.counted) "
            "FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::int[], "
            "$6::text[], $7::int[], $8::bool[]) "
            "AS n (id, status, reason, due, attempts, content, counted, tried) "
            "WHERE a.action_id = n.id "
            # An outcome counts for its own attempt only: a later attempt may be under way.
            "AND (NOT n.tried OR (a.status = 'sending' AND a.attempts = n.attempts))"
        )
        await connection.execute(
            with_notification(statement, ACTIONS_CHANNEL),
            *map(list, zip(*rows, strict=True)),
            now,
        )


async def update_waiting_due(
    connection: Connection, workspace: WorkspaceId, reasons: Sequence[str], play: str | None = None
) -> None:
    """Make actions due now that are held for one of these reasons."""
    statement = (
        "UPDATE orchestrator.actions SET due_at = 0 WHERE workspace = $1 AND status = 'held' "
        "AND reason = ANY($2::text[]) AND ($3::text IS NULL OR play = $3)"
    )
    await connection.execute(
        with_notification(statement, ACTIONS_CHANNEL), workspace, reasons, play
    )


async def list_of_contacts(
    connection: Connection, contacts: Collection[ContactId], limit: int
) -> list[tuple[ActionRow, int]]:
    """Return (action, decided_at in µs UTC) of contacts, the latest decision first."""
    rows = await connection.fetch(
        f"SELECT {_COLUMNS}, decided_at FROM orchestrator.actions "
        "WHERE contact_id = ANY($1::text[]) ORDER BY decided_at DESC, action_id LIMIT $2",
        list(contacts),
        limit,
    )
    return [(ActionRow(*tuple(r)[:-1]), r["decided_at"]) for r in rows]


async def list_by_status(
    connection: Connection, workspace: WorkspaceId, status: str, limit: int
) -> list[tuple[ActionRow, int]]:
    """Return (action, decided_at in µs UTC) of a status, the latest decision first."""
    rows = await connection.fetch(
        f"SELECT {_COLUMNS}, decided_at FROM orchestrator.actions "
        "WHERE workspace = $1 AND status = $2 ORDER BY decided_at DESC, action_id LIMIT $3",
        workspace,
        status,
        limit,
    )
    return [(ActionRow(*tuple(r)[:-1]), r["decided_at"]) for r in rows]


async def get_action(
    connection: Connection, workspace: WorkspaceId, action_id: str
) -> ActionRow | None:
    """Return an action of a workspace."""
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM orchestrator.actions WHERE (workspace, action_id) = ($1, $2)",
        workspace,
        action_id,
    )
    return ActionRow(*row) if row else None


async def collect_gauges(connection: Connection) -> None:
    """Set the gauge of actions in doubt."""
    query = "SELECT count(*) FROM orchestrator.actions WHERE status = 'in_doubt'"
    metrics.ACTIONS_IN_DOUBT.set(await connection.fetchval(query))
