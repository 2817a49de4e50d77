"""Contacts as others see them."""

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
    others: list[str]
    """Verified addresses and external ids, as `type:value`."""
    published: dict[str, PublishedPosition]


async def get_summaries(connection: Connection, wanted: Sequence[str]) -> list[ContactSummary]:
    """Return the contacts in the order asked for."""
    if not wanted:
        return []
    rows = await connection.fetch(
        "SELECT contact_id, workspace, version, profile FROM scoring.contacts WHERE contact_id = ANY($1::text[])",
        wanted,
    )
    found = {r[0]: ContactSummary(r[0], r[1], r[2], r[3], [], [], [], {}) for r in rows}
    for contact_id, kind, value in await connection.fetch(
        "SELECT contact_id, type, value FROM scoring.identifiers WHERE contact_id = ANY($1::text[]) "
        "UNION SELECT i.contact_id, 'anonymous_id', c.anonymous_id FROM scoring.identifiers i "
        "JOIN scoring.device_claims c ON c.workspace = i.workspace AND (c.owner_type, c.owner) = (i.type, i.value) "
        "WHERE i.contact_id = ANY($1::text[]) ORDER BY 1, 2, 3",
        wanted,
    ):
        if kind == "user_id":
            found[contact_id].user_ids.append(value)
        elif kind == "anonymous_id":
            found[contact_id].anonymous_ids.append(value)
        elif kind != "message":
            found[contact_id].others.append(f"{kind}:{value}")
    for contact_id, cycle, raw in await connection.fetch(
        "SELECT contact_id, cycle, published FROM scoring.publications WHERE contact_id = ANY($1::text[])",
        wanted,
    ):
        found[contact_id].published[cycle] = _published.decode(raw)
    return [found[contact] for contact in wanted if contact in found]


async def list_identifiers(connection: Connection, contact: str) -> list[str]:
    """Return what a contact is known by, as `type:value`."""
    rows = await connection.fetch(
        "SELECT type || ':' || value FROM scoring.contact_identifiers WHERE contact_id = $1 ORDER BY 1",
        contact,
    )
    return [r[0] for r in rows]


async def get_transaction_time(connection: Connection) -> int:
    """Return the database's clock at the start of the transaction."""
    return from_datetime(await connection.fetchval("SELECT now()"))


async def find_contact(connection: Connection, workspace: str, who: str) -> str | None:
    """Return a workspace's contact with this contact id, identifier (`value` or `type:value`) or e-mail.

    A merged id leads to the survivor.
    """
    contact = await connection.fetchval(
        "SELECT contact_id FROM scoring.contacts WHERE contact_id = $1 AND workspace = $4 UNION ALL "
        "(SELECT i.contact_id FROM unnest($2::text[], $3::text[]) AS w (type, value) "
        "JOIN scoring.identifiers i ON i.workspace = $4 AND i.value = w.value AND coalesce(w.type, i.type) = i.type "
        "ORDER BY w.type IS NULL, i.type DESC) LIMIT 1",
        who,
        [kind for kind, _ in _readings(who)],
        [value for _, value in _readings(who)],
        workspace,
    )
    if contact is None:
        contact = await _by_email(connection, workspace, who)
    survivor = await connection.fetchval(
        "SELECT merged_into FROM scoring.contacts WHERE contact_id = $1", contact
    )
    found: str | None = survivor or contact
    return found


async def get_contact_id(connection: Connection, workspace: str, who: str) -> str:
    """Return what `find` does. Raises NotFound where that finds nobody."""
    contact = await find_contact(connection, workspace, who)
    if contact is None:
        raise NotFound(f"nobody has the id, identifier or e-mail {who!r}")
    return contact


async def get_identifier(connection: Connection, workspace: str, who: str) -> Identifier:
    """Return the identifier that `who` means: `type:value`, a value alone, or the oldest one of the contact it finds.

    Known identifiers go before devices. Raises NotFound.
    """
    row = await connection.fetchrow(
        "SELECT i.type, i.value FROM unnest($2::text[], $3::text[]) AS w (type, value) "
        "JOIN scoring.identifiers i ON i.workspace = $1 AND i.value = w.value AND coalesce(w.type, i.type) = i.type "
        "WHERE i.type <> 'message' ORDER BY w.type IS NULL, i.type = 'anonymous_id', i.number LIMIT 1",
        workspace,
        [kind for kind, _ in _readings(who)],
        [value for _, value in _readings(who)],
    )
    row = row or await connection.fetchrow(
        "SELECT type, value FROM scoring.identifiers WHERE workspace = $1 AND contact_id = $2 AND type <> 'message' "
        "ORDER BY type = 'anonymous_id', number LIMIT 1",
        workspace,
        await find_contact(connection, workspace, who),
    )
    if row is None:
        raise NotFound(
            f"nobody has the identifier, id or e-mail {who!r} (an identifier is given as user_id:alice)"
        )
    return (row["type"], row["value"])


def _readings(who: str) -> list[tuple[str | None, str]]:
    """Return how `who` can be read: as a value, or as type:value, where an external id's type has a colon itself."""
    parts = who.split(":")
    typed = [(":".join(parts[:n]), ":".join(parts[n:])) for n in range(1, min(len(parts), 3))]
    return [(None, who), *typed]


async def _by_email(connection: Connection, workspace: str, address: str) -> str | None:
    found: str | None = await connection.fetchval(
        "SELECT contact_id FROM scoring.contacts WHERE profile IS NOT NULL AND profile::json->'email'->>0 = $1 "
        "AND workspace = $2 ORDER BY contact_id LIMIT 1",
        address,
        workspace,
    )
    return found
