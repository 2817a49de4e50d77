"""What a replay reads: every touchpoint in key order, and every stored pure row, from one snapshot."""

from collections.abc import AsyncIterator, Mapping

import msgspec

from libs.common.db.connection import Connection
from libs.common.messages import Touchpoint
from services.scoring.domain.correction import ManualStage, TouchpointVerdict, correction_key
from services.scoring.domain.identity import Identifier, Key
from services.scoring.domain.identity_resolution import ManualLink
from services.scoring.domain.publication import PublishedPosition
from services.scoring.repository.corrections import manual_stage_from_row

_touchpoint = msgspec.json.Decoder(Touchpoint)
_published = msgspec.msgpack.Decoder(PublishedPosition)
Identifiers = frozenset[tuple[str, str, str]]
"""{(workspace, type, value)}: what a contact is matched by."""


class StoredRows(msgspec.Struct):
    """A contact's pure rows in one cycle, and what was last published."""

    state: bytes = b""
    moves: list[bytes] = []
    published: PublishedPosition | None = None


async def iter_touchpoints(connection: Connection) -> AsyncIterator[Touchpoint]:
    """Yield every stored touchpoint in key order, a thousand at a time."""
    query = "SELECT data FROM scoring.touchpoints ORDER BY occurred_at, source, message_id"
    async for row in connection.cursor(query, prefetch=1_000):
        yield _touchpoint.decode(row[0])


async def get_verdicts(connection: Connection) -> dict[str, dict[Key, TouchpointVerdict]]:
    """Return by workspace what corrections say of touchpoints."""
    found: dict[str, dict[Key, TouchpointVerdict]] = {}
    for workspace, at, source, message_id, kind in await connection.fetch(
        "SELECT workspace, occurred_at, source, message_id, kind FROM scoring.corrections "
        "WHERE kind IN ('bot', 'human', 'exclude', 'include') ORDER BY id"
    ):
        found.setdefault(workspace, {}).setdefault(
            (at, source, message_id), TouchpointVerdict()
        ).apply(kind)
    return found


async def list_manual_links(connection: Connection) -> list[ManualLink]:
    """Return the last correction about each pair of identifiers."""
    rows = await connection.fetch(
        "SELECT DISTINCT ON (workspace, type, value, other_type, other_value) "
        "workspace, kind, occurred_at, id, type, value, other_type, other_value FROM scoring.corrections "
        "WHERE kind IN ('link', 'unlink') ORDER BY workspace, type, value, other_type, other_value, id DESC"
    )
    return [
        ManualLink(r[0], ((r[4], r[5]), (r[6], r[7])), r[1], correction_key(r[2], r[3]))
        for r in rows
    ]


async def list_manual_stages(connection: Connection) -> list[tuple[str, Identifier, ManualStage]]:
    """Return (workspace, identifier, stage set by hand) of every one."""
    rows = await connection.fetch(
        "SELECT workspace, type, value, id, occurred_at, recorded_at, detail FROM scoring.corrections WHERE kind = 'stage'"
    )
    return [(r[0], (r[1], r[2]), manual_stage_from_row(r[3], r[4], r[5], r[6])) for r in rows]


async def get_identifiers(connection: Connection) -> dict[str, Identifiers]:
    """Return the identifiers of every contact that is not merged; a claimed device belongs to its users alone."""
    rows = await connection.fetch(
        "SELECT i.contact_id, i.workspace, i.type, i.value FROM scoring.identifiers i "
        "JOIN scoring.contacts c USING (contact_id) WHERE c.merged_into IS NULL AND NOT (i.type = 'anonymous_id' "
        "AND EXISTS (SELECT FROM scoring.device_claims d WHERE d.workspace = i.workspace AND d.anonymous_id = i.value)) "
        "UNION SELECT i.contact_id, i.workspace, 'anonymous_id', d.anonymous_id FROM scoring.identifiers i "
        "JOIN scoring.device_claims d ON d.workspace = i.workspace AND (d.owner_type, d.owner) = (i.type, i.value)"
    )
    found: dict[str, set[tuple[str, str, str]]] = {}
    for contact_id, *identifier in rows:
        found.setdefault(contact_id, set()).add((identifier[0], identifier[1], identifier[2]))
    return {contact: frozenset(names) for contact, names in found.items()}


async def get_pure_rows(
    connection: Connection, folds: Mapping[str, str]
) -> dict[tuple[str, str], StoredRows]:
    """Return the stored states and open transitions of these folds ({fold: cycle}) by (contact, cycle)."""
    found: dict[tuple[str, str], StoredRows] = {}
    for r in await connection.fetch(
        "SELECT contact_id, fold, state FROM scoring.contact_states WHERE fold = ANY($1::text[])",
        list(folds),
    ):
        found[r[0], folds[r[1]]] = StoredRows(r[2], [])
    for r in await connection.fetch(
        "SELECT contact_id, fold, move FROM scoring.transitions WHERE known_to IS NULL AND fold = ANY($1::text[]) "
        "ORDER BY seq",
        list(folds),
    ):
        found.setdefault((r[0], folds[r[1]]), StoredRows(b"", [])).moves.append(r[2])
    for r in await connection.fetch(
        "SELECT contact_id, cycle, published FROM scoring.publications"
    ):
        if (r[0], r[1]) in found:
            found[r[0], r[1]].published = _published.decode(r[2])
    return found
