"""Contacts for readers: summaries, and the look-up by contact id, identifier or e-mail.

A contact reference is a contact id, an identifier (`value` or `type:value`) or an e-mail address.
"""

from collections.abc import Sequence

import msgspec

from libs.common.contact_reference import parse_contact_reference
from libs.common.db.connection import Connection
from libs.common.errors import NotFound
from libs.common.ids import ContactId, WorkspaceId
from libs.common.instants import from_datetime
from services.scoring.domain.identity import Identifier
from services.scoring.domain.publication import PublishedPosition

_published = msgspec.msgpack.Decoder(PublishedPosition)


class ContactSummary(msgspec.Struct):
    """A contact's row, identifiers and published positions."""

    contact_id: ContactId
    workspace: WorkspaceId
    version: int
    profile: str | None
    user_ids: list[str]
    anonymous_ids: list[str]
    verified_identifiers: list[str]
    """Verified addresses and external ids, as `type:value`."""
    published: dict[str, PublishedPosition]


async def get_summaries(
    connection: Connection, contacts: Sequence[ContactId]
) -> list[ContactSummary]:
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


async def list_identifiers(connection: Connection, contact: ContactId) -> list[str]:
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


async def find_contact(
    connection: Connection, workspace: WorkspaceId, reference: str
) -> ContactId | None:
    """Return the id of the referenced contact of a workspace, or None.

    References: `libs.common.contact_reference`. A merged contact's id leads to the contact that it
    was merged into.
    """
    parsed = parse_contact_reference(reference)
    contact: ContactId | None = await connection.fetchval(
        "SELECT scoring.find_contact($1, $2, $3, $4, $5)",
        workspace,
        parsed.text,
        parsed.types,
        parsed.values,
        list(parsed.addresses),
    )
    return contact


async def get_contact_id(
    connection: Connection, workspace: WorkspaceId, reference: str
) -> ContactId:
    """Return the id of the referenced contact of a workspace. Raises NotFound."""
    contact = await find_contact(connection, workspace, reference)
    if contact is None:
        raise NotFound(f"no contact has the id, identifier or e-mail {reference!r}")
    return contact


async def get_identifier(
    connection: Connection, workspace: WorkspaceId, reference: str
) -> Identifier:
    """Return the identifier that `reference` names, else the oldest of the referenced contact.

    Known identifiers take precedence over devices. Raises NotFound.
    """
    parsed = parse_contact_reference(reference)
    row = await connection.fetchrow(
        "SELECT i.type, i.value "
        "FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS r (type, value, reading) "
        "JOIN scoring.identifiers i "
        "ON i.workspace = $1 AND i.value = r.value AND coalesce(r.type, i.type) = i.type "
        "WHERE i.type <> 'message' "
        "ORDER BY r.reading, i.type = 'anonymous_id', i.number LIMIT 1",
        workspace,
        parsed.types,
        parsed.values,
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
