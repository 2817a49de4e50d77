"""Whom somebody means: contacts by their ids, identifiers, addresses and devices, from scoring's views."""

from collections.abc import Collection

from libs.common.db.connection import Connection
from libs.common.errors import NotFound


async def find_contact(connection: Connection, workspace: str, who: str) -> str | None:
    """Return the contact with this id, identifier or e-mail address; a merged id leads to the survivor."""
    contact: str | None = await connection.fetchval(
        "SELECT contact_id FROM (SELECT coalesce(merged_into, contact_id) AS contact_id, 1 AS rank "
        "FROM scoring.contact_profiles WHERE contact_id = $2 AND workspace = $1 UNION ALL "
        "SELECT contact_id, 2 FROM scoring.contact_identifiers WHERE workspace = $1 AND value = $2 UNION ALL "
        "SELECT contact_id, 3 FROM scoring.contact_emails WHERE workspace = $1 AND email = lower($2)) f ORDER BY rank LIMIT 1",
        workspace,
        who,
    )
    return contact


async def find_by_identifier(
    connection: Connection, workspace: str, kind: str, value: str
) -> str | None:
    """Return the contact with an identifier of a kind (`email`: a verified address); a merged one leads to the survivor."""
    contact: str | None = await connection.fetchval(
        "SELECT coalesce(p.merged_into, p.contact_id) FROM scoring.contact_identifiers i "
        "JOIN scoring.contact_profiles p USING (contact_id) "
        "WHERE (i.workspace, i.type, i.value) = ($1, $2, $3) LIMIT 1",
        workspace,
        kind,
        value,
    )
    return contact


async def get_contact_id(connection: Connection, workspace: str, who: str) -> str:
    """Return the contact that somebody means. Raises NotFound."""
    contact = await find_contact(connection, workspace, who)
    if contact is None:
        raise NotFound(f"nobody has the id, identifier or e-mail {who!r}")
    return contact


async def get_devices(connection: Connection, ids: Collection[str]) -> dict[str, set[str]]:
    """Return the devices of contacts: anonymous ids that any identifier of theirs was seen on."""
    rows = await connection.fetch(
        "SELECT contact_id, value FROM scoring.contact_identifiers WHERE contact_id = ANY($1::text[]) AND type = 'anonymous_id'",
        list(ids),
    )
    found: dict[str, set[str]] = {}
    for contact, value in rows:
        found.setdefault(contact, set()).add(value)
    return found


async def list_claiming_address(
    connection: Connection, contact: str, email_sha256: str
) -> list[str]:
    """Return the contacts who say that an address is theirs which a server vouches for as this contact's, by its hash."""
    rows = await connection.fetch(
        "SELECT e.contact_id FROM scoring.contact_identifiers i JOIN scoring.contact_emails e "
        "ON (e.workspace, e.email) = (i.workspace, i.value) WHERE i.contact_id = $1 AND i.type = 'email' "
        "AND encode(sha256(convert_to(i.value, 'UTF8')), 'hex') = $2",
        contact,
        email_sha256,
    )
    return [r[0] for r in rows]
