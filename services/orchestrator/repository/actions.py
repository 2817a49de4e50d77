"""The ledger: what was decided, reserved, tried and concluded; the caps; what returns as touchpoints."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from libs.common.db.connection import Connection
from libs.common.db.notifications import notify, with_notification
from libs.common.instants import DAY
from libs.common.messages.action import ActionStatus, Outcome
from libs.common.observability import metrics

ACTIONS_CHANNEL = "orchestrator_actions"
"""Notified when actions are inserted or updated: they may be due first."""
ECHOES_CHANNEL = "orchestrator_echoes"
"""Notified when touchpoint echoes are inserted."""
LEASE_US = 300_000_000
"""How long a reserved attempt may take (µs) before nobody knows of it: well above a channel's time-outs together."""
DAYS_PER_WEEK = 7
_COLUMNS = (
    "action_id, enrollment_id, workspace, contact_id, play, step, channel, destination, status, cause, due_at, attempts, "
    "priority, content, counted_day, reason"
)
_OPEN = "status IN ('pending', 'held', 'sending')"


class ActionRow(msgspec.Struct, frozen=True):
    """An action of the ledger; `due_at` in µs UTC."""

    action_id: str
    enrollment_id: str
    workspace: str
    contact_id: str
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
    """The day (UTC, since 1970) on which it was counted against the caps; 0: it was not."""
    reason: str = "decided"


class ActionOutcome(msgspec.Struct, frozen=True):
    """What became of an action; `due` says when a pending, held or sending one comes up again (µs UTC)."""

    status: ActionStatus
    reason: str
    due: int = 0
    attempt: int = 0
    content: str = ""
    outcome: Outcome | None = None
    counted_day: int = 0
    data: Mapping[str, Any] = {}
    """What the message tells whoever executes it."""
    until: int | None = None
    """When what is held may go out; None if somebody has to let it go."""


async def insert_actions(connection: Connection, rows: Sequence[ActionRow], now: int) -> None:
    """Add actions as pending; one that is known stays as it is."""
    if rows:
        await connection.executemany(
            f"INSERT INTO orchestrator.actions ({_COLUMNS}, decided_at) "
            "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17) ON CONFLICT DO NOTHING",
            [(*msgspec.structs.astuple(row), now) for row in rows],
        )
        await notify(connection, ACTIONS_CHANNEL)


async def get_lanes(connection: Connection) -> dict[tuple[str, str], int]:
    """Return {(channel, destination): instant at which its first open action is due (µs UTC)}."""
    rows = await connection.fetch(
        "WITH RECURSIVE lane AS ("
        f"(SELECT channel, destination FROM orchestrator.actions WHERE {_OPEN} ORDER BY 1, 2 LIMIT 1) UNION ALL "
        "SELECT n.* FROM lane, LATERAL (SELECT channel, destination FROM orchestrator.actions "
        f"WHERE {_OPEN} AND (channel, destination) > (lane.channel, lane.destination) ORDER BY 1, 2 LIMIT 1) n) "
        "SELECT channel, destination, (SELECT min(due_at) FROM orchestrator.actions a "
        "WHERE (a.channel, a.destination) = (lane.channel, lane.destination) "
        f"AND {_OPEN}) FROM lane"
    )
    return {(r[0], r[1]): r[2] for r in rows}


async def list_due_contacts(
    connection: Connection, lane: tuple[str, str], now: int, limit: int
) -> list[str]:
    """Return the contacts of the actions that have waited longest on a lane; nothing is locked yet."""
    rows = await connection.fetch(
        f"SELECT contact_id FROM orchestrator.actions WHERE (channel, destination) = ($1, $2) AND {_OPEN} AND due_at <= $3 "
        "ORDER BY due_at LIMIT $4",
        *lane,
        now,
        limit,
    )
    return list(dict.fromkeys(r[0] for r in rows))


async def list_due_actions(
    connection: Connection, lane: tuple[str, str], contacts: Collection[str], now: int
) -> list[ActionRow]:
    """Return all that is due for these contacts on a lane: what goes first comes first."""
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM orchestrator.actions WHERE (channel, destination) = ($1, $2) AND {_OPEN} AND due_at <= $3 "
        "AND contact_id = ANY($4::text[]) ORDER BY priority DESC, due_at, action_id",
        *lane,
        now,
        list(contacts),
    )
    return [ActionRow(*r) for r in rows]


async def list_open(connection: Connection, enrollments: Collection[str]) -> list[ActionRow]:
    """Return the actions of enrollments that have not gone out and may."""
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM orchestrator.actions WHERE enrollment_id = ANY($1::text[]) "
        "AND status IN ('pending', 'held') ORDER BY action_id",
        list(enrollments),
    )
    return [ActionRow(*r) for r in rows]


async def get_audience_data(
    connection: Connection, enrollments: Collection[str]
) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Return by (enrollment, destination, audience) what advertisers were told, or may have been told, of its contact."""
    rows = await connection.fetch(
        "SELECT enrollment_id, destination, audience, told FROM orchestrator.audience_told "
        "WHERE enrollment_id = ANY($1::text[])",
        list(enrollments),
    )
    return {(r[0], r[1], r[2]): msgspec.json.decode(r[3]) for r in rows}


async def insert_audience_data(
    connection: Connection, rows: Collection[tuple[str, str, str, Mapping[str, Any]]]
) -> None:
    """Note (enrollment, destination, audience, what) of what advertisers are about to be told; what is noted already stays."""
    await connection.executemany(
        "INSERT INTO orchestrator.audience_told VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        [(*place, msgspec.json.encode(what).decode()) for *place, what in rows],
    )


async def list_unfinished_audience_actions(
    connection: Connection, enrollments: Collection[str]
) -> dict[str, list[ActionRow]]:
    """Return by enrollment its actions on audiences that have not come to an end, or that somebody may let go once more."""
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM orchestrator.actions WHERE enrollment_id = ANY($1::text[]) AND channel = 'audience' "
        f"AND ({_OPEN} OR status = 'failed')",
        list(enrollments),
    )
    found: dict[str, list[ActionRow]] = {}
    for row in rows:
        found.setdefault(row["enrollment_id"], []).append(ActionRow(*row))
    return found


async def update_outcomes(
    connection: Connection, found: Sequence[tuple[str, ActionOutcome]], now: int
) -> None:
    """Write down what became of actions; what comes of an attempt that was given up already is not."""
    if found:
        rows = [
            (
                action,
                b.status,
                b.reason[:300],
                b.due,
                b.attempt,
                b.content,
                b.counted_day,
                b.outcome is not None,
            )
            for action, b in found
        ]
        statement = (
            "UPDATE orchestrator.actions a SET status = n.status, reason = n.reason, due_at = n.due, decided_at = $9, "
            "attempts = greatest(a.attempts, n.attempts), content = coalesce(nullif(n.content, ''), a.content), "
            "counted_day = greatest(a.counted_day, n.counted) "
            "FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::int[], $6::text[], $7::int[], $8::bool[]) "
            "AS n (id, status, reason, due, attempts, content, counted, tried) WHERE a.action_id = n.id "
            # What came of an attempt counts for that attempt alone: another one may be under way by now.
            "AND (NOT n.tried OR (a.status = 'sending' AND a.attempts = n.attempts))"
        )
        await connection.execute(
            with_notification(statement, ACTIONS_CHANNEL),
            *map(list, zip(*rows, strict=True)),
            now,
        )


async def insert_deliveries(
    connection: Connection, rows: Sequence[tuple[str, int, str, str, int]]
) -> None:
    """Note (action, attempt, outcome, detail, at) of attempts."""
    await connection.executemany(
        "INSERT INTO orchestrator.deliveries (action_id, attempt, outcome, detail, at) VALUES ($1, $2, $3, $4, $5) "
        "ON CONFLICT (action_id, attempt) DO NOTHING",
        [
            (action, attempt, outcome, detail[:300], at)
            for action, attempt, outcome, detail, at in rows
        ],
    )


async def count_sent(
    connection: Connection, contacts: Mapping[str, Collection[str]], channel: str, now: int
) -> dict[str, tuple[int, int]]:
    """Return how much each contact was sent on a channel (today, this week); `contacts` gives the ids of each.

    The contacts are held by who asks, so nobody counts beside.
    """
    owner = {one: contact for contact, ids in contacts.items() for one in ids}
    rows = await connection.fetch(
        "SELECT contact_id, day, used FROM orchestrator.caps WHERE contact_id = ANY($1::text[]) AND channel = $2 AND day > $3",
        list(owner),
        channel,
        now // DAY - DAYS_PER_WEEK,
    )
    found = dict.fromkeys(contacts, (0, 0))
    for contact, day, count in rows:
        today, week = found[owner[contact]]
        found[owner[contact]] = (today + (count if day == now // DAY else 0), week + count)
    return found


async def upsert_cap_counts(
    connection: Connection, sent: Mapping[str, int], channel: str, now: int
) -> None:
    """Count what contacts are sent now against their caps."""
    if sent:
        await connection.execute(
            "INSERT INTO orchestrator.caps (contact_id, channel, day, used) SELECT c, $3, $4, n "
            "FROM unnest($1::text[], $2::int[]) AS u (c, n) "
            "ON CONFLICT (contact_id, channel, day) DO UPDATE SET used = caps.used + excluded.used",
            list(sent),
            list(sent.values()),
            channel,
            now // DAY,
        )


async def upsert_exposures(connection: Connection, shown: Sequence[tuple[str, str, int]]) -> None:
    """Note (contact, content, instant) of what was shown."""
    await connection.executemany(
        "INSERT INTO orchestrator.exposures VALUES ($1, $2, 1, $3) ON CONFLICT (contact_id, content) "
        "DO UPDATE SET times = exposures.times + 1, last_at = greatest(exposures.last_at, excluded.last_at)",
        shown,
    )


async def update_waiting_due(
    connection: Connection, workspace: str, reasons: Sequence[str], play: str | None = None
) -> None:
    """Let what was held for such reasons come up again now."""
    statement = (
        "UPDATE orchestrator.actions SET due_at = 0 WHERE workspace = $1 AND status = 'held' "
        "AND reason = ANY($2::text[]) AND ($3::text IS NULL OR play = $3)"
    )
    await connection.execute(
        with_notification(statement, ACTIONS_CHANNEL), workspace, reasons, play
    )


async def list_of_contacts(
    connection: Connection, contacts: Collection[str], limit: int
) -> list[tuple[ActionRow, int]]:
    """Return (action, decided_at) of contacts, the newest decisions first."""
    rows = await connection.fetch(
        f"SELECT {_COLUMNS}, decided_at FROM orchestrator.actions WHERE contact_id = ANY($1::text[]) "
        "ORDER BY decided_at DESC, action_id LIMIT $2",
        list(contacts),
        limit,
    )
    return [(ActionRow(*tuple(r)[:-1]), r["decided_at"]) for r in rows]


async def list_by_status(
    connection: Connection, workspace: str, status: str, limit: int
) -> list[tuple[ActionRow, int]]:
    """Return (action, decided_at) of a workspace's actions of a status, those decided last first."""
    rows = await connection.fetch(
        f"SELECT {_COLUMNS}, decided_at FROM orchestrator.actions WHERE workspace = $1 AND status = $2 "
        "ORDER BY decided_at DESC, action_id LIMIT $3",
        workspace,
        status,
        limit,
    )
    return [(ActionRow(*tuple(r)[:-1]), r["decided_at"]) for r in rows]


async def get_action(connection: Connection, workspace: str, action_id: str) -> ActionRow | None:
    """Return an action of a workspace."""
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM orchestrator.actions WHERE (workspace, action_id) = ($1, $2)",
        workspace,
        action_id,
    )
    return ActionRow(*row) if row else None


async def insert_echoes(connection: Connection, bodies: Sequence[bytes]) -> None:
    """Keep touchpoints of ours until the public door has them."""
    if not bodies:
        return
    await connection.executemany(
        "INSERT INTO orchestrator.echoes (body) VALUES ($1)", [(body,) for body in bodies]
    )
    await notify(connection, ECHOES_CHANNEL)


async def list_echoes(connection: Connection, limit: int) -> list[tuple[int, bytes]]:
    """Return touchpoints that wait for the door, oldest first."""
    rows = await connection.fetch(
        "SELECT id, body FROM orchestrator.echoes ORDER BY id LIMIT $1", limit
    )
    return [(r[0], r[1]) for r in rows]


async def delete_echoes(connection: Connection, done: Sequence[int]) -> None:
    """Forget touchpoints that the door has."""
    await connection.execute(
        "DELETE FROM orchestrator.echoes WHERE id = ANY($1::bigint[])", list(done)
    )


async def collect_gauges(connection: Connection) -> None:
    """Look at actions of which nobody knows whether they went out."""
    query = "SELECT count(*) FROM orchestrator.actions WHERE status = 'in_doubt'"
    metrics.ACTIONS_IN_DOUBT.set(await connection.fetchval(query))
