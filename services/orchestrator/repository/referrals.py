"""Referral codes, and the contacts that came by them."""

from collections.abc import Collection, Sequence

import msgspec

from libs.common.db.connection import Connection
from libs.common.ids import ContactId, WorkspaceId


class Referral(msgspec.Struct, frozen=True):
    """A contact that came by a code; instants in µs UTC."""

    contact_id: ContactId
    workspace: WorkspaceId
    code: str
    came_at: int
    status: str = "open"
    reason: str = ""


async def insert_codes(connection: Connection, codes: Collection[tuple[str, str, str]]) -> None:
    """Insert codes that contacts have received: (workspace, code, contact)."""
    await connection.executemany(
        "INSERT INTO orchestrator.referral_codes VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        sorted(codes),
    )


async def code_exists(connection: Connection, code: str) -> bool:
    """Return whether a contact has the code."""
    return bool(
        await connection.fetchval(
            "SELECT true FROM orchestrator.referral_codes WHERE code = $1 LIMIT 1", code
        )
    )


async def get_code_owners(
    connection: Connection, workspace: WorkspaceId, codes: Collection[str]
) -> dict[str, ContactId]:
    """Return the contacts by their codes."""
    rows = await connection.fetch(
        "SELECT code, contact_id FROM orchestrator.referral_codes WHERE workspace = $1 "
        "AND code = ANY($2::text[])",
        workspace,
        list(codes),
    )
    return {r[0]: r[1] for r in rows}


async def insert_referrals(
    connection: Connection, arrivals: Sequence[tuple[ContactId, WorkspaceId, str, int]]
) -> set[ContactId]:
    """Insert (contact, workspace, code, instant) of arrivals by an existing code.

    Return the contacts that had no referral yet; the first arrival of a contact counts.
    """
    if not arrivals:
        return set()
    rows = await connection.fetch(
        "INSERT INTO orchestrator.referrals (contact_id, workspace, code, came_at) "
        "SELECT DISTINCT ON (w.contact) w.contact, w.workspace, w.code, w.at "
        "FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) AS w (contact, workspace, "
        "code, at) "
        "JOIN orchestrator.referral_codes c ON (c.workspace, c.code) = (w.workspace, w.code) ORDER "
        "BY w.contact, w.at "
        "ON CONFLICT DO NOTHING RETURNING contact_id",
        *map(list, zip(*arrivals, strict=True)),
    )
    return {r[0] for r in rows}


async def list_for_update(
    connection: Connection, contacts: Collection[ContactId]
) -> list[Referral]:
    """Lock and return the referrals of contacts, in order of arrival."""
    rows = await connection.fetch(
        "SELECT contact_id, workspace, code, came_at, status, reason FROM orchestrator.referrals "
        "WHERE contact_id = ANY($1::text[]) ORDER BY came_at, contact_id FOR UPDATE",
        list(contacts),
    )
    return [Referral(*r) for r in rows]


async def list_corrected(
    connection: Connection, causes: Sequence[tuple[str, str, int, str, str]]
) -> set[ContactId]:
    """Return the ids of the touchpoints that a correction has withdrawn.

    `causes` are (id, workspace, occurred_at, source, message id).
    """
    rows = await connection.fetch(
        "SELECT DISTINCT ON (w.id, c.kind IN ('bot', 'human')) w.id, c.kind "
        "FROM scoring.touchpoint_corrections c "
        "JOIN unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[]) AS w (id, "
        "workspace, at, source, message) "
        "ON (c.workspace, c.occurred_at, c.source, c.message_id) = (w.workspace, w.at, w.source, "
        "w.message) "
        "ORDER BY w.id, c.kind IN ('bot', 'human'), c.id DESC",
        *map(list, zip(*causes, strict=True)),
    )
    return {r[0] for r in rows if r[1] in ("bot", "exclude")}


async def update_outcomes(
    connection: Connection, outcomes: Sequence[tuple[str, str, str]], now: int
) -> None:
    """Store the outcomes of referrals: (contact, status, reason)."""
    await connection.executemany(
        "UPDATE orchestrator.referrals SET status = $2, reason = $3, settled_at = $4 "
        "WHERE contact_id = $1",
        [(*outcome, now) for outcome in outcomes],
    )


async def list_referrals(
    connection: Connection, workspace: WorkspaceId, limit: int
) -> list[tuple[Referral, ContactId | None]]:
    """Return (referral, referrer) of a workspace, the latest arrival first."""
    rows = await connection.fetch(
        "SELECT r.contact_id, r.workspace, r.code, r.came_at, r.status, r.reason, c.contact_id "
        "FROM orchestrator.referrals r "
        "LEFT JOIN orchestrator.referral_codes c USING (workspace, code) WHERE workspace = $1 "
        "ORDER BY r.came_at DESC, 1 LIMIT $2",
        workspace,
        limit,
    )
    return [(Referral(*tuple(r)[:6]), r[6]) for r in rows]
