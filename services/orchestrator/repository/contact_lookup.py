"""Contact look-up by references, identifiers, addresses and devices, in scoring's views."""

from collections.abc import Collection

from libs.common.contact_reference import parse_contact_reference
from libs.common.db.connection import Connection
from libs.common.errors import NotFound
from libs.common.ids import ContactId, WorkspaceId


async def find_contact(
    connection: Connection, workspace: WorkspaceId, reference: str
) -> ContactId | None:
    """Return the canonical id of the contact that a reference names, or None.

    References: `libs.common.contact_reference`. A merged id leads to the survivor.
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


async def find_by_identifier(
    connection: Connection, workspace: WorkspaceId, kind: str, value: str
) -> ContactId | None:
    """Return the canonical id of the contact with an identifier (`email`: a verified address).

    Proven identifiers alone count here, unlike in `find_contact`: an address in traits proves
    nothing.
    """
    contact: ContactId | None = await connection.fetchval(
        "SELECT coalesce(p.merged_into, p.contact_id) FROM scoring.contact_identifiers i "
        "JOIN scoring.contact_profiles p USING (contact_id) "
        "WHERE (i.workspace, i.type, i.value) = ($1, $2, $3) LIMIT 1",
        workspace,
        kind,
        value,
    )
    return contact


async def get_contact_id(
    connection: Connection, workspace: WorkspaceId, reference: str
) -> ContactId:
    """Return the canonical id of the contact that a reference names. Raises NotFound."""
    contact = await find_contact(connection, workspace, reference)
    if contact is None:
        raise NotFound(f"no contact has the id, identifier or e-mail {reference!r}")
    return contact


async def get_devices(
    connection: Connection, ids: Collection[ContactId]
) -> dict[ContactId, set[str]]:
    """Return the devices (anonymous ids) by contact."""
    rows = await connection.fetch(
        "SELECT contact_id, value FROM scoring.contact_identifiers "
        "WHERE contact_id = ANY($1::text[]) AND type = 'anonymous_id'",
        list(ids),
    )
    devices: dict[ContactId, set[str]] = {}
    for contact, value in rows:
        devices.setdefault(contact, set()).add(value)
    return devices


async def list_claiming_address(
    connection: Connection, contact: ContactId, email_sha256: str
) -> list[ContactId]:
    """Return the contacts that claim an address which is a verified identifier of this contact.

    The address is given by its SHA-256, in hexadecimal.
    """
    rows = await connection.fetch(
        "SELECT e.contact_id FROM scoring.contact_identifiers i JOIN scoring.contact_emails e "
        "ON (e.workspace, e.email) = (i.workspace, i.value) WHERE i.contact_id = $1 "
        "AND i.type = 'email' "
        "AND encode(sha256(convert_to(i.value, 'UTF8')), 'hex') = $2",
        contact,
        email_sha256,
    )
    return [r[0] for r in rows]
