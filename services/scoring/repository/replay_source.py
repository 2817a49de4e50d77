"""Input of a replay check: every touchpoint, correction and stored pure row.

The caller reads all of it in one repeatable-read transaction.
"""

from collections.abc import AsyncIterator, Mapping

import msgspec

from libs.common.db.connection import Connection
from libs.common.ids import ContactId, WorkspaceId
from libs.common.messages import Touchpoint
from services.scoring.domain.correction import ManualStage, TouchpointVerdict, correction_key
from services.scoring.domain.identity import Identifier, Key
from services.scoring.domain.identity_resolution import ManualLink
from services.scoring.domain.publication import PublishedPosition
from services.scoring.repository.corrections import manual_stage_from_row
from services.scoring.repository.fold_rows import PublicationKey

_touchpoint = msgspec.json.Decoder(Touchpoint)
_published = msgspec.msgpack.Decoder(PublishedPosition)
Identifiers = frozenset[tuple[str, str, str]]
"""{(workspace, type, value)}: stored and replayed contacts are matched by these sets."""


class StoredRows(msgspec.Struct):
    """A contact's pure rows in one cycle, and its last published position."""

    state: bytes = b""
    moves: list[bytes] = []
    published: PublishedPosition | None = None


async def iter_touchpoints(connection: Connection) -> AsyncIterator[Touchpoint]:
    """Yield every stored touchpoint in key order; a cursor fetches a thousand at a time."""
    query = "SELECT data FROM scoring.touchpoints ORDER BY occurred_at, source, message_id"
    async for row in connection.cursor(query, prefetch=1_000):
        yield _touchpoint.decode(row[0])


async def get_verdicts(connection: Connection) -> dict[WorkspaceId, dict[Key, TouchpointVerdict]]:
    """Return {workspace: {touchpoint key: verdict}} of all corrected touchpoints."""
    verdicts: dict[WorkspaceId, dict[Key, TouchpointVerdict]] = {}
    for workspace, at, source, message_id, kind in await connection.fetch(
        "SELECT workspace, occurred_at, source, message_id, kind FROM scoring.corrections "
        "WHERE kind IN ('bot', 'human', 'exclude', 'include') ORDER BY id"
    ):
        verdicts.setdefault(workspace, {}).setdefault(
            (at, source, message_id), TouchpointVerdict()
        ).apply(kind)
    return verdicts


async def list_manual_links(connection: Connection) -> list[ManualLink]:
    """Return the last correction about each pair of identifiers."""
    rows = await connection.fetch(
        "SELECT DISTINCT ON (workspace, type, value, other_type, other_value) "
        "workspace, kind, occurred_at, id, type, value, other_type, other_value "
        "FROM scoring.corrections WHERE kind IN ('link', 'unlink') "
        "ORDER BY workspace, type, value, other_type, other_value, id DESC"
    )
    return [
        ManualLink(r[0], ((r[4], r[5]), (r[6], r[7])), r[1], correction_key(r[2], r[3]))
        for r in rows
    ]


async def list_manual_stages(
    connection: Connection,
) -> list[tuple[WorkspaceId, Identifier, ManualStage]]:
    """Return (workspace, identifier, manual stage) of every `stage` correction."""
    rows = await connection.fetch(
        "SELECT workspace, type, value, id, occurred_at, recorded_at, detail "
        "FROM scoring.corrections WHERE kind = 'stage'"
    )
    return [(r[0], (r[1], r[2]), manual_stage_from_row(r[3], r[4], r[5], r[6])) for r in rows]


async def get_identifiers(connection: Connection) -> dict[ContactId, Identifiers]:
    """Return the identifiers of every contact that is not merged.

    A claimed device counts for the contacts that claim it, not for its own contact.
    """
    rows = await connection.fetch(
        "SELECT i.contact_id, i.workspace, i.type, i.value FROM scoring.identifiers i "
        "JOIN scoring.contacts c USING (contact_id) "
        "WHERE c.merged_into IS NULL AND NOT (i.type = 'anonymous_id' "
        "AND EXISTS (SELECT FROM scoring.device_claims d "
        "WHERE d.workspace = i.workspace AND d.anonymous_id = i.value)) "
        "UNION SELECT i.contact_id, i.workspace, 'anonymous_id', d.anonymous_id "
        "FROM scoring.identifiers i JOIN scoring.device_claims d "
        "ON d.workspace = i.workspace AND (d.owner_type, d.owner) = (i.type, i.value)"
    )
    identifiers: dict[ContactId, set[tuple[str, str, str]]] = {}
    for contact_id, *identifier in rows:
        identifiers.setdefault(contact_id, set()).add((identifier[0], identifier[1], identifier[2]))
    return {contact: frozenset(values) for contact, values in identifiers.items()}


async def get_pure_rows(
    connection: Connection, folds: Mapping[str, str]
) -> dict[PublicationKey, StoredRows]:
    """Return the stored states and open transitions of these folds; `folds` is {fold: cycle}."""
    stored: dict[PublicationKey, StoredRows] = {}
    for r in await connection.fetch(
        "SELECT contact_id, fold, state FROM scoring.contact_states WHERE fold = ANY($1::text[])",
        list(folds),
    ):
        stored[PublicationKey(r[0], folds[r[1]])] = StoredRows(r[2], [])
    for r in await connection.fetch(
        "SELECT contact_id, fold, move FROM scoring.transitions "
        "WHERE known_to IS NULL AND fold = ANY($1::text[]) ORDER BY seq",
        list(folds),
    ):
        stored.setdefault(PublicationKey(r[0], folds[r[1]]), StoredRows(b"", [])).moves.append(r[2])
    for r in await connection.fetch(
        "SELECT contact_id, cycle, published FROM scoring.publications"
    ):
        if (r[0], r[1]) in stored:
            stored[PublicationKey(r[0], r[1])].published = _published.decode(r[2])
    return stored
