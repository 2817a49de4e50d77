"""Exposures: contents that were shown to contacts."""

from collections.abc import Mapping, Sequence

from libs.common.db.connection import Connection
from libs.common.ids import ContactId


async def upsert_exposures(
    connection: Connection, exposures: Sequence[tuple[str, str, int]]
) -> None:
    """Count (contact, content, instant in µs UTC) of contents that were shown."""
    await connection.executemany(
        "INSERT INTO orchestrator.exposures VALUES ($1, $2, 1, $3) "
        "ON CONFLICT (contact_id, content) DO UPDATE "
        "SET times = exposures.times + 1, last_at = greatest(exposures.last_at, excluded.last_at)",
        exposures,
    )


async def get_last_shown(
    connection: Connection, aliases: Mapping[ContactId, ContactId]
) -> dict[str, dict[str, int]]:
    """Return {canonical id: {content: instant of the last exposure (µs UTC)}}.

    `aliases` are all ids of the contacts with their canonical ids.
    """
    rows = await connection.fetch(
        "SELECT contact_id, content, last_at FROM orchestrator.exposures "
        "WHERE contact_id = ANY($1::text[])",
        list(aliases),
    )
    last_shown: dict[str, dict[str, int]] = {}
    for contact, content, last_at in rows:
        contents = last_shown.setdefault(aliases[contact], {})
        contents[content] = max(last_at, contents.get(content, 0))
    return last_shown
