"""The orchestrator's SQL. Contacts and addresses are read through scoring's views at the moment of a decision."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from libs.common.clock import DAY
from libs.common.db.connection import Connection
from libs.common.observability import metrics
from services.orchestrator.domain.gate import Facts

LEASE = 90_000_000
"""How long a reserved attempt may take (µs) before it counts as in doubt: well above the SMTP time-outs together."""


class ActionRow(msgspec.Struct, frozen=True):
    """An action of the ledger."""

    action_id: str
    workspace: str
    contact_id: str
    play: str
    step: str
    channel: str
    status: str
    cause: str
    attempts: int


class ContactRow(msgspec.Struct, frozen=True):
    """A contact at the moment of a decision; `contact_id` is the survivor's if it was merged."""

    contact_id: str
    traits: dict[str, Any]
    user_id: str | None
    anonymous_id: str | None


async def put_consent(
    connection: Connection, workspace: str, contact_id: str, purpose: str, granted: bool, at: int, signal_id: str
) -> None:
    """Keep the latest consent by instant; at one instant the stricter one holds."""
    await connection.execute(
        "INSERT INTO orchestrator.consents (workspace, contact_id, purpose, granted, occurred_at, signal_id) "
        "VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (contact_id, purpose) DO UPDATE SET granted = excluded.granted, "
        "occurred_at = excluded.occurred_at, signal_id = excluded.signal_id "
        "WHERE consents.occurred_at < excluded.occurred_at "
        "OR (consents.occurred_at = excluded.occurred_at AND consents.granted AND NOT excluded.granted)",
        workspace,
        contact_id,
        purpose,
        granted,
        at,
        signal_id,
    )


async def enroll(connection: Connection, row: Sequence[Any]) -> bool:
    """Insert (id, workspace, contact, play, version, cause, entered_at); return False when it is there already."""
    added = await connection.fetchval(
        "INSERT INTO orchestrator.enrollments (enrollment_id, workspace, contact_id, play, play_version, cause, "
        "entered_at) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING RETURNING 1",
        *row,
    )
    return added is not None


async def put_action(connection: Connection, row: Sequence[Any]) -> None:
    """Insert (id, enrollment, workspace, contact, play, step, channel, cause, due_at, decided_at) as pending."""
    await connection.execute(
        "INSERT INTO orchestrator.actions (action_id, enrollment_id, workspace, contact_id, play, step, channel, "
        "status, reason, cause, due_at, decided_at) VALUES ($1, $2, $3, $4, $5, $6, $7, 'pending', 'enrolled', $8, $9, $10)",
        *row,
    )


async def due_actions(connection: Connection, now: int, limit: int) -> list[ActionRow]:
    """Lock and return actions that are due; other instances pass over locked ones."""
    rows = await connection.fetch(
        "SELECT action_id, workspace, contact_id, play, step, channel, status, cause, attempts "
        "FROM orchestrator.actions WHERE status IN ('pending', 'held', 'sending') AND due_at <= $1 "
        "ORDER BY due_at, action_id LIMIT $2 FOR UPDATE SKIP LOCKED",
        now,
        limit,
    )
    return [ActionRow(*r) for r in rows]


async def contact(connection: Connection, contact_id: str) -> ContactRow:
    """Return the contact as it is now, through scoring's views."""
    row = await connection.fetchrow(
        "SELECT coalesce(s.contact_id, c.contact_id) AS contact_id, coalesce(s.traits, c.traits)::text AS traits "
        "FROM scoring.contact_profiles c LEFT JOIN scoring.contact_profiles s ON s.contact_id = c.merged_into "
        "WHERE c.contact_id = $1",
        contact_id,
    )
    if row is None:
        return ContactRow(contact_id, {}, None, None)
    names = await connection.fetch(
        "SELECT type, min(value) AS value FROM scoring.contact_identifiers WHERE contact_id = $1 GROUP BY type",
        row["contact_id"],
    )
    ids = {r["type"]: r["value"] for r in names}
    traits = json.loads(row["traits"]) if row["traits"] else {}
    return ContactRow(row["contact_id"], traits, ids.get("user_id"), ids.get("anonymous_id"))


async def facts(
    connection: Connection, who: ContactRow, action: ActionRow, purpose: str, now: int, *, held_out: bool
) -> Facts:
    """Gather what the gate needs; the day's cap row stays locked until the decision is committed.

    An action that is tried again does not count against itself.
    """
    channel = action.channel
    day = now // DAY
    used = await connection.fetchval(
        "INSERT INTO orchestrator.caps (contact_id, channel, day, used) VALUES ($1, $2, $3, 0) "
        "ON CONFLICT (contact_id, channel, day) DO UPDATE SET used = caps.used RETURNING used",
        who.contact_id,
        channel,
        day,
    )
    # What was said under an id that has been merged since holds too; of two consents the stricter.
    consent = await connection.fetchval(
        "SELECT bool_and(granted) FROM orchestrator.consents WHERE purpose = $2 AND contact_id IN "
        "(SELECT contact_id FROM scoring.contact_profiles WHERE contact_id = $1 OR merged_into = $1)",
        who.contact_id,
        purpose,
    )
    suppressed = await connection.fetchval(
        "SELECT min(reason) FROM orchestrator.suppressions WHERE channel = $2 AND contact_id IN "
        "(SELECT contact_id FROM scoring.contact_profiles WHERE contact_id = $1 OR merged_into = $1)",
        who.contact_id,
        channel,
    )
    address, zone = who.traits.get("email"), who.traits.get("timezone")
    return Facts(
        purpose,
        address if isinstance(address, str) else None,
        consent,
        suppressed,
        used if action.attempts == 0 else max(0, used - 1),
        held_out,
        zone if isinstance(zone, str) else "UTC",
    )


async def reserve(connection: Connection, action: ActionRow, contact_id: str, now: int) -> int:
    """Write down that an attempt begins, and count it against the cap; return the attempt's number."""
    if action.attempts == 0:
        await connection.execute(
            "UPDATE orchestrator.caps SET used = used + 1 WHERE contact_id = $1 AND channel = $2 AND day = $3",
            contact_id,
            action.channel,
            now // DAY,
        )
    await connection.execute(
        "UPDATE orchestrator.actions SET status = 'sending', reason = 'allowed', attempts = attempts + 1, due_at = $2 "
        "WHERE action_id = $1",
        action.action_id,
        now + LEASE,
    )
    return action.attempts + 1


async def conclude(connection: Connection, action_id: str, status: str, reason: str, now: int, due: int = 0) -> None:
    """Set what became of an action; `due` says when a pending or held one comes up again."""
    await connection.execute(
        "UPDATE orchestrator.actions SET status = $2, reason = $3, decided_at = $4, due_at = $5 "
        "WHERE action_id = $1 AND status <> 'in_doubt'",
        action_id,
        status,
        reason,
        now,
        due,
    )


async def put_delivery(
    connection: Connection, action_id: str, attempt: int, outcome: str, detail: str, now: int
) -> None:
    """Note the outcome of an attempt."""
    await connection.execute(
        "INSERT INTO orchestrator.deliveries (action_id, attempt, outcome, detail, at) VALUES ($1, $2, $3, $4, $5) "
        "ON CONFLICT (action_id, attempt) DO NOTHING",
        action_id,
        attempt,
        outcome,
        detail[:300],
        now,
    )


async def suppress(connection: Connection, contact_id: str, channel: str, reason: str) -> None:
    """Send this contact nothing more on the channel."""
    await connection.execute(
        "INSERT INTO orchestrator.suppressions (contact_id, channel, reason) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        contact_id,
        channel,
        reason,
    )


async def put_echo(connection: Connection, body: bytes) -> None:
    """Keep a touchpoint of ours until the public door has it."""
    await connection.execute("INSERT INTO orchestrator.echoes (body) VALUES ($1)", body)


async def echoes(connection: Connection, limit: int) -> list[tuple[int, bytes]]:
    """Return touchpoints that wait for the door, oldest first."""
    rows = await connection.fetch("SELECT id, body FROM orchestrator.echoes ORDER BY id LIMIT $1", limit)
    return [(r[0], r[1]) for r in rows]


async def drop_echoes(connection: Connection, done: Sequence[int]) -> None:
    """Forget touchpoints that the door has."""
    await connection.execute("DELETE FROM orchestrator.echoes WHERE id = ANY($1::bigint[])", list(done))


async def watch(connection: Connection) -> None:
    """Look at actions of which nobody knows whether they went out."""
    query = "SELECT count(*) FROM orchestrator.actions WHERE status = 'in_doubt'"
    metrics.ACTIONS_IN_DOUBT.set(await connection.fetchval(query))
