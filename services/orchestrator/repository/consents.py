"""Consents, and suppressions of contacts and e-mail addresses."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from libs.common.db.connection import Connection
from libs.common.ids import ContactId, WorkspaceId


class ConsentRow(NamedTuple):
    """A consent as it is stored; `occurred_at` in µs UTC."""

    workspace: WorkspaceId
    contact: ContactId
    purpose: str
    granted: bool
    occurred_at: int
    signal_id: str


async def upsert_consents(connection: Connection, rows: Sequence[ConsentRow]) -> None:
    """Store the latest consent by instant; of two at one instant, the stricter one."""
    await connection.executemany(
        "INSERT INTO orchestrator.consents "
        "(workspace, contact_id, purpose, granted, occurred_at, signal_id) "
        "VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (contact_id, purpose) DO UPDATE "
        "SET granted = excluded.granted, occurred_at = excluded.occurred_at, "
        "signal_id = excluded.signal_id WHERE consents.occurred_at < excluded.occurred_at "
        "OR (consents.occurred_at = excluded.occurred_at "
        "AND consents.granted AND NOT excluded.granted)",
        rows,
    )


async def get_consents(
    connection: Connection, aliases: Mapping[ContactId, ContactId]
) -> dict[str, dict[str, bool]]:
    """Return {canonical id: {purpose: granted}}; of two consents, the stricter one.

    `aliases` are all ids of the contacts with their canonical ids.
    """
    rows = await connection.fetch(
        "SELECT contact_id, purpose, granted FROM orchestrator.consents "
        "WHERE contact_id = ANY($1::text[])",
        list(aliases),
    )
    consents: dict[str, dict[str, bool]] = {}
    for contact, purpose, granted in rows:
        by_purpose = consents.setdefault(aliases[contact], {})
        by_purpose[purpose] = by_purpose.get(purpose, True) and granted
    return consents


async def count_consents(connection: Connection, workspace: WorkspaceId) -> int:
    """Return the number of granted consents."""
    count: int = await connection.fetchval(
        "SELECT count(*) FROM orchestrator.consents WHERE workspace = $1 AND granted", workspace
    )
    return count


async def insert_suppressions(connection: Connection, rows: Sequence[tuple[str, str, str]]) -> None:
    """Suppress (contact, channel, reason); an earlier reason stays."""
    await connection.executemany(
        "INSERT INTO orchestrator.suppressions (contact_id, channel, reason) "
        "VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        sorted(rows),
    )


async def get_suppressions(
    connection: Connection, aliases: Mapping[ContactId, ContactId]
) -> dict[str, dict[str, str]]:
    """Return {canonical id: {channel: reason}}.

    `aliases` are all ids of the contacts with their canonical ids.
    """
    rows = await connection.fetch(
        "SELECT contact_id, channel, reason FROM orchestrator.suppressions "
        "WHERE contact_id = ANY($1::text[]) ORDER BY reason",
        list(aliases),
    )
    suppressions: dict[str, dict[str, str]] = {}
    for contact, channel, reason in rows:
        suppressions.setdefault(aliases[contact], {}).setdefault(channel, reason)
    return suppressions


async def delete_suppressions(
    connection: Connection, contacts: Sequence[ContactId], channel: str, address: tuple[str, str]
) -> bool:
    """Delete a contact's suppressions on a channel; return whether there were any.

    `contacts` are all ids of the contact, `address` is (workspace, SHA-256 of its address).
    """
    rows = await connection.fetch(
        "DELETE FROM orchestrator.suppressions "
        "WHERE contact_id = ANY($1::text[]) AND channel = $2 RETURNING 1",
        contacts,
        channel,
    )
    address_rows = await connection.fetch(
        "DELETE FROM orchestrator.suppressed_addresses "
        "WHERE (workspace, email_sha256) = ($1, $2) AND $3 = 'email' RETURNING 1",
        *address,
        channel,
    )
    return bool(rows or address_rows)


async def insert_address_suppressions(
    connection: Connection, rows: Sequence[tuple[str, str, str]]
) -> None:
    """Suppress e-mails to (workspace, SHA-256 of the address, reason), for any contact.

    An earlier reason stays.
    """
    await connection.executemany(
        "INSERT INTO orchestrator.suppressed_addresses (workspace, email_sha256, reason) "
        "VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        sorted(rows),
    )


async def get_address_suppressions(
    connection: Connection, addresses: Collection[tuple[str, str]]
) -> dict[tuple[str, str], str]:
    """Return the reasons by (workspace, SHA-256) of the suppressed addresses.

    Suppressions of the same address in other workspaces are included.
    """
    rows = await connection.fetch(
        "SELECT workspace, email_sha256, reason FROM orchestrator.suppressed_addresses "
        "WHERE email_sha256 = ANY($1::text[])",
        [address for _, address in addresses],
    )
    return {(r[0], r[1]): r[2] for r in rows}
