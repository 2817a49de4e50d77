"""Codes that contacts give to friends, and who came by them."""

from collections.abc import Collection, Sequence

import msgspec

from libs.common.db.connection import Connection


class Referral(msgspec.Struct, frozen=True):
    """Somebody who came by a code; instants in µs UTC."""

    contact_id: str
    workspace: str
    code: str
    came_at: int
    status: str = "open"
    reason: str = ""


async def give(connection: Connection, codes: Collection[tuple[str, str, str]]) -> None:
    """Note (workspace, code, contact) of codes that somebody was told."""
    await connection.executemany(
        "INSERT INTO orchestrator.referral_codes VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", sorted(codes)
    )


async def is_known(connection: Connection, code: str) -> bool:
    """Return whether a code was given to somebody."""
    return bool(await connection.fetchval("SELECT true FROM orchestrator.referral_codes WHERE code = $1 LIMIT 1", code))


async def owners(connection: Connection, workspace: str, codes: Collection[str]) -> dict[str, str]:
    """Return whose codes these are."""
    rows = await connection.fetch(
        "SELECT code, contact_id FROM orchestrator.referral_codes WHERE workspace = $1 AND code = ANY($2::text[])",
        workspace,
        list(codes),
    )
    return {r[0]: r[1] for r in rows}


async def note(connection: Connection, came: Sequence[tuple[str, str, str, int]]) -> None:
    """Note (contact, workspace, code, instant) of who came; the first friend counts."""
    await connection.executemany(
        "INSERT INTO orchestrator.referrals (contact_id, workspace, code, came_at) VALUES ($1, $2, $3, $4) "
        "ON CONFLICT DO NOTHING",
        came,
    )


async def open_of(connection: Connection, contacts: Collection[str]) -> list[Referral]:
    """Return the referrals of contacts that nothing has come of yet, the first first; they are held."""
    rows = await connection.fetch(
        "SELECT contact_id, workspace, code, came_at FROM orchestrator.referrals "
        "WHERE contact_id = ANY($1::text[]) AND status = 'open' ORDER BY came_at, contact_id FOR UPDATE",
        list(contacts),
    )
    return [Referral(*r) for r in rows]


async def settle(connection: Connection, found: Sequence[tuple[str, str, str]], now: int) -> None:
    """Write down what came of referrals: (contact, status, reason)."""
    await connection.executemany(
        "UPDATE orchestrator.referrals SET status = $2, reason = $3, settled_at = $4 WHERE contact_id = $1",
        [(*one, now) for one in found],
    )


async def every(connection: Connection, workspace: str, limit: int) -> list[tuple[Referral, str | None]]:
    """Return (referral, who gave the code) of a workspace, those who came last first."""
    rows = await connection.fetch(
        "SELECT r.contact_id, r.workspace, r.code, r.came_at, r.status, r.reason, c.contact_id FROM orchestrator.referrals r "
        "LEFT JOIN orchestrator.referral_codes c USING (workspace, code) WHERE workspace = $1 "
        "ORDER BY r.came_at DESC, 1 LIMIT $2",
        workspace,
        limit,
    )
    return [(Referral(*tuple(r)[:6]), r[6]) for r in rows]
