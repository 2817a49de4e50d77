"""Figures of a workspace: touchpoints and contacts by source, positions of contacts."""

from collections import Counter

import msgspec

from libs.common.db.connection import Connection
from libs.common.ids import WorkspaceId
from services.scoring.domain.publication import PublishedPosition

_published = msgspec.msgpack.Decoder(PublishedPosition)
FETCH_ROWS = 1_000


class SourceFigures(msgspec.Struct, frozen=True):
    """Stored touchpoints of a source, and the contacts that they belong to."""

    touchpoints: int
    contacts: int


async def count_by_source(
    connection: Connection, workspace: WorkspaceId
) -> dict[str, SourceFigures]:
    """Return the figures of each source; reads every touchpoint of the workspace."""
    rows = await connection.fetch(
        "SELECT source, count(*), count(DISTINCT contact_id) FROM scoring.touchpoints "
        "WHERE workspace = $1 GROUP BY source ORDER BY source",
        workspace,
    )
    return {row[0]: SourceFigures(row[1], row[2]) for row in rows}


async def count_positions(
    connection: Connection, workspace: WorkspaceId
) -> dict[str, Counter[tuple[str, ...]]]:
    """Return by cycle the contacts at each combination of axis stages, as published.

    Reads every published contact; the connection is in a transaction.
    """
    positions: dict[str, Counter[tuple[str, ...]]] = {}
    query = (
        "SELECT p.cycle, p.published FROM scoring.publications p "
        "JOIN scoring.contacts c USING (contact_id) "
        "WHERE c.workspace = $1 AND c.merged_into IS NULL"
    )
    async for cycle, published in connection.cursor(query, workspace, prefetch=FETCH_ROWS):
        places = tuple(_published.decode(published).position.places)
        positions.setdefault(cycle, Counter())[places] += 1
    return positions
