"""Contacts for readers: summaries, and the look-up by contact id, identifier or e-mail.

A contact reference is a contact id, an identifier (`value` or `type:value`) or an e-mail address.
"""

from collections.abc import Sequence

import msgspec

from libs.common.db.connection import Connection
from libs.common.errors import NotFound
from libs.common.instants import from_datetime
from services.scoring.domain.identity import Identifier
from services.scoring.domain.publication import PublishedPosition

_published = msgspec.msgpack.Decoder(PublishedPosition)


class ContactSummary(msgspec.Struct):
    """A contact's row, identifiers and published positions."""

    contact_id: str
    workspace: str
    version: int
    profile: str | None
    user_ids: list[str]
    anonymous_ids: list[str]
    verified_identifiers: list[str]
    """Verified addresses and external ids, as `type:value`."""
    published: dict[str, PublishedPosition]


async def get_summaries(connection: Connection, contacts: Sequence[str]) -> list[ContactSummary]:
    """Return the contacts' summaries in the given order; unknown ids are left out."""
    if not contacts:
        return []
    rows = await connection.fetch(
        "SELECT contact_id, workspace, version, profile FROM scoring.contacts "
        "WHERE contact_id = ANY($1::text[])",
        contacts,
    )
    summaries = {r[0]: ContactSummary(r[0], r[1], r[2], r[3], [], [], [], {}) for r in rows}
    for contact_id, kind, value in await connection.fetch(
        "SELECT contact_id, type, value FROM scoring.identifiers "
        "WHERE contact_id = ANY($1::text[]) "
        "UNION SELECT i.contact_id, 'anonymous_id', c.anonymous_id FROM scoring.identifiers i "
        "JOIN scoring.device_claims c ON c.workspace = i.workspace "
        "AND (c.owner_type, c.owner) = (i.type, i.value) "
        "WHERE i.contact_id = ANY($1::text[]) ORDER BY 1, 2, 3",
        contacts,
    ):
        if kind == "user_id":
            summaries[contact_id].user_ids.append(value)
        elif kind == "anonymous_id":
            summaries[contact_id].anonymous_ids.append(value)
        elif kind != "message":
            summaries[contact_id].verified_identifiers.append(f"{kind}:{value}")
    for contact_id, cycle, encoded in await connection.fetch(
        "SELECT contact_id, cycle, published FROM scoring.publications "
        "WHERE contact_id = ANY($1::text[])",
        contacts,
    ):
        summaries[contact_id].published[cycle] = _published.decode(encoded)
    return [summaries[contact] for contact in contacts if contact in summaries]


async def list_identifiers(connection: Connection, contact: str) -> list[str]:
    """Return the contact's identifiers and claimed devices, as `type:value`."""
    rows = await connection.fetch(
        "SELECT type || ':' || value FROM scoring.contact_identifiers "
        "WHERE contact_id = $1 ORDER BY 1",
        contact,
    )
    return [r[0] for r in rows]


async def get_transaction_time(connection: Connection) -> int:
    """Return the database's clock at the start of the transaction, in microseconds UTC."""
    return from_datetime(await connection.fetchval("SELECT now()"))


async def find_contact(connection: Connection, workspace: str, reference: str) -> str | None:
    """Return the id of the referenced contact of a workspace, or None.

    A merged contact's id leads to the contact that it was merged into.
    """
    readings = _parse_reference(reference)
    contact = await connection.fetchval(
        "SELECT contact_id FROM scoring.contacts WHERE contact_id = $1 AND workspace = $4 "
        "UNION ALL (SELECT i.contact_id FROM unnest($2::text[], $3::text[]) AS w (type, value) "
        "JOIN scoring.identifiers i "
        "ON i.workspace = $4 AND i.value = w.value AND coalesce(w.type, i.type) = i.type "
        "ORDER BY w.type IS NULL, i.type DESC) LIMIT 1",
        reference,
        [kind for kind, _ in readings],
        [value for _, value in readings],
        workspace,
    )
    if contact is None:
        contact = await _get_contact_id_by_email(connection, workspace, reference)
    survivor = await connection.fetchval(
        "SELECT merged_into FROM scoring.contacts WHERE contact_id = $1", contact
    )
    contact_id: str | None = survivor or contact
    return contact_id


async def get_contact_id(connection: Connection, workspace: str, reference: str) -> str:
    """Return the id of the referenced contact of a workspace. Raises NotFound."""
    contact = await find_contact(connection, workspace, reference)
    if contact is None:
        raise NotFound(f"no contact has the id, identifier or e-mail {reference!r}")
    return contact


async def get_identifier(connection: Connection, workspace: str, reference: str) -> Identifier:
    """Return the identifier that `reference` names, else the oldest of the referenced contact.

    Known identifiers take precedence over devices. Raises NotFound.
    """
    readings = _parse_reference(reference)
    row = await connection.fetchrow(
        "SELECT i.type, i.value FROM unnest($2::text[], $3::text[]) AS w (type, value) "
        "JOIN scoring.identifiers i "
        "ON i.workspace = $1 AND i.value = w.value AND coalesce(w.type, i.type) = i.type "
        "WHERE i.type <> 'message' "
        "ORDER BY w.type IS NULL, i.type = 'anonymous_id', i.number LIMIT 1",
        workspace,
        [kind for kind, _ in readings],
        [value for _, value in readings],
    )
    row = row or await connection.fetchrow(
        "SELECT type, value FROM scoring.identifiers "
        "WHERE workspace = $1 AND contact_id = $2 AND type <> 'message' "
        "ORDER BY type = 'anonymous_id', number LIMIT 1",
        workspace,
        await find_contact(connection, workspace, reference),
    )
    if row is None:
        raise NotFound(
            f"no contact has the identifier, id or e-mail {reference!r} "
            "(an identifier is given as user_id:alice)"
        )
    return (row["type"], row["value"])


def _parse_reference(reference: str) -> list[tuple[str | None, str]]:
    """Return the (type, value) pairs that a reference can stand for; a bare value has type None.

    The type of an external id contains a colon, so `external:crm:1` is split at either colon.
    """
    parts = reference.split(":")
    typed = [(":".join(parts[:n]), ":".join(parts[n:])) for n in range(1, min(len(parts), 3))]
    return [(None, reference), *typed]


async def _get_contact_id_by_email(
    connection: Connection, workspace: str, address: str
) -> str | None:
    contact: str | None = await connection.fetchval(
        "SELECT contact_id FROM scoring.contacts "
        "WHERE profile IS NOT NULL AND profile::json->'email'->>0 = $1 "
        "AND workspace = $2 ORDER BY contact_id LIMIT 1",
        address,
        workspace,
    )
    return contact
