"""Signals about contacts, each stored once, in `orchestrator.signals_seen`."""

from collections.abc import Mapping, Sequence

from libs.common.db.connection import Connection
from libs.common.ids import ContactId
from services.orchestrator.domain.contact_facts import MAX_INSTANTS


async def insert_signals(
    connection: Connection, rows: Sequence[tuple[str, str, int, str]]
) -> set[str]:
    """Insert (contact, signal, occurred_at, signal id); return the ids that were not stored yet."""
    if not rows:
        return set()
    inserted = await connection.fetch(
        "INSERT INTO orchestrator.signals_seen "
        "SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[]) "
        "ON CONFLICT DO NOTHING RETURNING signal_id",
        *map(list, zip(*rows, strict=True)),
    )
    return {r[0] for r in inserted}


async def get_instants(
    connection: Connection, aliases: Mapping[ContactId, ContactId]
) -> dict[str, dict[str, list[int]]]:
    """Return {canonical id: {signal: its last instants (µs UTC), oldest first}}.

    `aliases` are all ids of the contacts with their canonical ids. At most `MAX_INSTANTS` are kept
    per id and signal.
    """
    rows = await connection.fetch(
        "SELECT contact_id, signal, occurred_at FROM ("
        "SELECT contact_id, signal, occurred_at, row_number() OVER "
        "(PARTITION BY contact_id, signal ORDER BY occurred_at DESC) AS place "
        "FROM orchestrator.signals_seen WHERE contact_id = ANY($1::text[])) s "
        "WHERE place <= $2 ORDER BY occurred_at",
        list(aliases),
        MAX_INSTANTS,
    )
    instants: dict[str, dict[str, list[int]]] = {}
    for contact, signal, occurred_at in rows:
        instants.setdefault(aliases[contact], {}).setdefault(signal, []).append(occurred_at)
    return instants
