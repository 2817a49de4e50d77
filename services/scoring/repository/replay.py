"""What a replay reads: every touchpoint in key order, and every stored pure row, from one snapshot."""

from collections.abc import AsyncIterator

import msgspec

from libs.common.db.connection import Connection
from libs.common.messages import Touchpoint
from services.scoring.domain.publication import Published

_touchpoint = msgspec.json.Decoder(Touchpoint)
_published = msgspec.msgpack.Decoder(Published)
Identifiers = frozenset[tuple[str, str, str]]
"""{(workspace, type, value)}: what a contact is matched by."""


class StoredCycle(msgspec.Struct):
    """A contact's pure rows in one cycle, and what was last published."""

    state: bytes = b""
    moves: list[bytes] = []
    published: Published | None = None


async def touchpoints(connection: Connection) -> AsyncIterator[Touchpoint]:
    """Yield every stored touchpoint in key order, a thousand at a time."""
    query = "SELECT data FROM scoring.touchpoints ORDER BY occurred_at, source, message_id"
    async for row in connection.cursor(query, prefetch=1_000):
        yield _touchpoint.decode(row[0])


async def claims(connection: Connection) -> AsyncIterator[tuple[tuple[str, str], tuple[int, str, str], str]]:
    """Yield (device, key, user_id) of every claim: each touchpoint with both ids."""
    query = (
        "SELECT workspace, anonymous_id, occurred_at, source, message_id, user_id FROM scoring.touchpoints "
        "WHERE anonymous_id IS NOT NULL AND user_id IS NOT NULL"
    )
    async for r in connection.cursor(query, prefetch=5_000):
        yield (r[0], r[1]), (r[2], r[3], r[4]), r[5]


async def identifiers(connection: Connection) -> dict[str, Identifiers]:
    """Return the identifiers of every contact that is not merged; a claimed device belongs to its users alone."""
    rows = await connection.fetch(
        "SELECT i.contact_id, i.workspace, i.type, i.value FROM scoring.identifiers i "
        "JOIN scoring.contacts c USING (contact_id) WHERE c.merged_into IS NULL AND NOT (i.type = 'anonymous_id' "
        "AND EXISTS (SELECT FROM scoring.device_claims d WHERE d.workspace = i.workspace AND d.anonymous_id = i.value)) "
        "UNION SELECT i.contact_id, i.workspace, 'anonymous_id', d.anonymous_id FROM scoring.identifiers i "
        "JOIN scoring.device_claims d ON d.workspace = i.workspace AND d.user_id = i.value WHERE i.type = 'user_id'"
    )
    found: dict[str, set[tuple[str, str, str]]] = {}
    for contact_id, *identifier in rows:
        found.setdefault(contact_id, set()).add((identifier[0], identifier[1], identifier[2]))
    return {contact: frozenset(names) for contact, names in found.items()}


async def pure_rows(connection: Connection) -> dict[tuple[str, str], StoredCycle]:
    """Return the stored states and open transitions by (contact, cycle)."""
    found: dict[tuple[str, str], StoredCycle] = {}
    for r in await connection.fetch("SELECT contact_id, cycle, state FROM scoring.contact_states"):
        found[r[0], r[1]] = StoredCycle(r[2], [])
    for r in await connection.fetch(
        "SELECT contact_id, cycle, move FROM scoring.transitions WHERE known_to IS NULL ORDER BY seq"
    ):
        found.setdefault((r[0], r[1]), StoredCycle(b"", [])).moves.append(r[2])
    for r in await connection.fetch("SELECT contact_id, cycle, published FROM scoring.publications"):
        if (r[0], r[1]) in found:
            found[r[0], r[1]].published = _published.decode(r[2])
    return found
