"""What is held of contacts in cycles: states, open transitions, publications, timers, the re-fold queue."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from libs.common.db.connection import Connection
from libs.common.errors import Unavailable
from services.scoring.domain.identity import Key
from services.scoring.domain.move import Move, decode_move
from services.scoring.domain.publication import PublishedPosition
from services.scoring.domain.state_snapshot import StateSnapshot
from services.scoring.repository import state_snapshots

FoldKey = tuple[str, str]
"""(contact_id, fold), where a fold is one version of a cycle: `cycle@version`"""

_encoder = msgspec.msgpack.Encoder()
_published = msgspec.msgpack.Decoder(PublishedPosition)


class FoldStateRow(msgspec.Struct, frozen=True):
    """One contact in one fold, as stored."""

    state: bytes
    stored_seq: int
    due: int | None


class OpenMove(msgspec.Struct, frozen=True, gc=False):
    """A stored transition that is not closed."""

    move: Move
    raw: bytes
    received_at: int | None


async def get_states(
    connection: Connection, contacts: Sequence[str]
) -> dict[FoldKey, FoldStateRow]:
    """Return what is stored of the contacts in every fold."""
    rows = await connection.fetch(
        "SELECT contact_id, fold, s.state, s.stored_seq, t.due_at FROM scoring.contact_states s "
        "LEFT JOIN scoring.timers t USING (contact_id, fold) WHERE contact_id = ANY($1::text[])",
        list(contacts),
    )
    return {(r[0], r[1]): FoldStateRow(r[2], r[3], r[4]) for r in rows}


async def get_publications(
    connection: Connection, contacts: Sequence[str]
) -> dict[FoldKey, PublishedPosition]:
    """Return what was last published of the contacts, by (contact, cycle)."""
    rows = await connection.fetch(
        "SELECT contact_id, cycle, published FROM scoring.publications WHERE contact_id = ANY($1::text[])",
        list(contacts),
    )
    return {(r[0], r[1]): _published.decode(r[2]) for r in rows}


async def list_open_moves(
    connection: Connection, places: Mapping[FoldKey, int]
) -> dict[FoldKey, list[OpenMove]]:
    """Return the open transitions of these contacts and cycles from a `seq` on, in its order."""
    wanted = sorted(places)
    found: dict[FoldKey, list[OpenMove]] = {place: [] for place in wanted}
    rows = await connection.fetch(
        "SELECT contact_id, fold, move, received_at FROM scoring.transitions "
        "JOIN unnest($1::text[], $2::text[], $3::int[]) AS w (contact_id, fold, first) USING (contact_id, fold) "
        "WHERE known_to IS NULL AND seq >= w.first ORDER BY seq",
        [c for c, _ in wanted],
        [c for _, c in wanted],
        [places[place] for place in wanted],
    )
    for contact_id, fold, raw, received_at in rows:
        found[contact_id, fold].append(OpenMove(decode_move(raw), raw, received_at))
    return found


async def get_queued_refolds(
    connection: Connection, contacts: Iterable[str]
) -> "dict[str, RefoldRequest]":
    """Return those of the contacts that wait in the re-fold queue."""
    rows = await connection.fetch(
        "SELECT contact_id, reason, from_at, from_source, from_message_id, relearn FROM scoring.refolds "
        "WHERE contact_id = ANY($1::text[])",
        sorted(contacts),
    )
    return {r[0]: RefoldRequest(r[1], (r[2], r[3], r[4]), r[5]) for r in rows}


class RefoldRequest(msgspec.Struct, frozen=True):
    """Why a contact is folded again, and from which key.

    `relearn` asks for its profile to be built anew.
    """

    reason: str
    start: Key
    rebuild_profile: bool = False


async def enqueue_refolds(connection: Connection, wanted: Mapping[str, RefoldRequest]) -> None:
    """Put contacts in the re-fold queue, or let those that wait there begin at the earlier of both keys.

    `history` outlives another reason, since it decides what is published; `refolding` says no more than that the
    contact waits already.
    """
    if wanted:
        await connection.execute(
            "INSERT INTO scoring.refolds "
            "(contact_id, reason, from_at, from_source, from_message_id, relearn) SELECT * FROM "
            "unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::bool[]) "
            "ON CONFLICT (contact_id) DO UPDATE SET touched_at = now(), "
            "reason = CASE WHEN refolds.reason = 'history' OR excluded.reason = 'refolding' THEN refolds.reason "
            "ELSE excluded.reason END, "
            "(from_at, from_source, from_message_id) = (SELECT * FROM (VALUES "
            "(refolds.from_at, refolds.from_source, refolds.from_message_id), "
            "(excluded.from_at, excluded.from_source, excluded.from_message_id)) v ORDER BY 1, 2, 3 LIMIT 1), "
            "relearn = refolds.relearn OR excluded.relearn",
            *_columns(
                [(c, r.reason, *r.start, r.rebuild_profile) for c, r in sorted(wanted.items())]
            ),
        )


async def enqueue_all_refolds(connection: Connection) -> int:
    """Queue every contact; from here on the stream stores their touchpoints without folding. Return how many."""
    status: str = await connection.execute(
        "INSERT INTO scoring.refolds (contact_id, reason) SELECT contact_id, 'cycle_published' FROM scoring.contacts "
        "WHERE merged_into IS NULL ON CONFLICT DO NOTHING"
    )
    return int(status.rsplit(" ", 1)[1])


async def dequeue_refolds(connection: Connection, contacts: Sequence[str]) -> None:
    """Take contacts out of the queue."""
    await connection.execute(
        "DELETE FROM scoring.refolds WHERE contact_id = ANY($1::text[])", list(contacts)
    )


async def delete_fold_errors(connection: Connection, contacts: Sequence[str]) -> None:
    """Take back the marks of contacts that are folded again; what still raises is marked anew."""
    await connection.execute(
        "DELETE FROM scoring.fold_errors WHERE contact_id = ANY($1::text[])", list(contacts)
    )


async def upsert_fold_errors(
    connection: Connection, failed: Sequence[tuple[str, str, str]]
) -> None:
    """Mark (contact, fold) whose fold raised; the last good state stays."""
    if failed:
        await connection.execute(
            "INSERT INTO scoring.fold_errors (contact_id, fold, error) "
            "SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) "
            "ON CONFLICT (contact_id, fold) DO UPDATE SET error = excluded.error, at = now()",
            *_columns(failed),
        )


async def upsert_rows(connection: Connection, rows: "FoldRows") -> None:
    """Write everything that a batch came to, each table with one statement."""
    await _save_contacts(connection, rows)
    await _save_states(connection, rows)
    await _save_transitions(connection, rows)
    await _save_publications(connection, rows)
    await _save_timers(connection, rows)
    await state_snapshots.update_snapshots(connection, rows.cuts, rows.drops, rows.checkpoints)


class FoldRows(msgspec.Struct):
    """The rows that a batch writes. Every touched contact's version goes up by one."""

    contacts: dict[str, tuple[str | None, bool]] = {}
    """contact_id: (profile, whether its identity changed)"""
    states: list[tuple[str, str, bytes, int]] = []
    new_states: list[tuple[str, str, bytes, int]] = []
    """States of folds that had none; an insert that may conflict costs half as much again as an update."""
    close: list[tuple[str, str, int]] = []
    transitions: list[tuple[str, str, int, int, bytes, int | None]] = []
    publications: list[tuple[str, str, int, bytes, str, bool]] = []
    timers: list[tuple[str, str, int]] = []
    timers_gone: list[FoldKey] = []
    emptied: list[FoldKey] = []
    """Places that no touchpoint is left of."""
    cuts: list[tuple[str, str, int]] = []
    """Where contacts are folded again: checkpoints beyond the count are void."""
    drops: list[tuple[str, str, int]] = []
    checkpoints: list[tuple[str, str, StateSnapshot]] = []

    def add_publication(self, place: FoldKey, published: PublishedPosition) -> None:
        """Note a publication."""
        position = published.position
        self.publications.append(
            (
                *place,
                published.sequence,
                _encoder.encode(published),
                position.stage,
                position.dormant,
            )
        )


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


async def _save_contacts(connection: Connection, rows: FoldRows) -> None:
    if rows.contacts:
        values = [(c, profile, changed) for c, (profile, changed) in sorted(rows.contacts.items())]
        await connection.execute(
            "UPDATE scoring.contacts c SET version = version + 1, profile = coalesce(w.profile, c.profile), "
            "identity_version = identity_version + w.changed::int "
            "FROM unnest($1::text[], $2::text[], $3::bool[]) AS w (contact_id, profile, changed) "
            "WHERE c.contact_id = w.contact_id",
            *_columns(values),
        )


async def _save_states(connection: Connection, rows: FoldRows) -> None:
    if rows.emptied:
        await connection.execute(
            "DELETE FROM scoring.contact_states s USING unnest($1::text[], $2::text[]) AS w (contact_id, fold) "
            "WHERE (s.contact_id, s.fold) = (w.contact_id, w.fold)",
            *_columns(rows.emptied),
        )
    if rows.states:
        status: str = await connection.execute(
            "UPDATE scoring.contact_states s SET state = w.state, stored_seq = w.stored_seq "
            "FROM unnest($1::text[], $2::text[], $3::bytea[], $4::int[]) AS w (contact_id, fold, state, stored_seq) "
            "WHERE s.contact_id = w.contact_id AND s.fold = w.fold",
            *_columns(rows.states),
        )
        if status != f"UPDATE {len(rows.states)}":
            # What this transaction took from the cache is forgotten with it; the next one reads the database.
            raise Unavailable(
                f"of {len(rows.states)} states only {status.split()[1]} are stored: a cache was wrong"
            )
    if rows.new_states:
        await connection.copy_records_to_table(
            "contact_states",
            schema_name="scoring",
            columns=["contact_id", "fold", "state", "stored_seq"],
            records=rows.new_states,
        )


async def _save_transitions(connection: Connection, rows: FoldRows) -> None:
    if rows.close:
        await connection.execute(
            "UPDATE scoring.transitions t SET known_to = now() "
            "FROM unnest($1::text[], $2::text[], $3::int[]) AS w (contact_id, fold, seq) "
            "WHERE (t.contact_id, t.fold, t.seq) = (w.contact_id, w.fold, w.seq) AND t.known_to IS NULL",
            *_columns(rows.close),
        )
    if rows.transitions:
        await connection.copy_records_to_table(
            "transitions",
            schema_name="scoring",
            columns=["contact_id", "fold", "seq", "occurred_at", "move", "received_at"],
            records=rows.transitions,
        )


async def _save_publications(connection: Connection, rows: FoldRows) -> None:
    if rows.publications:
        await connection.execute(
            "INSERT INTO scoring.publications (contact_id, cycle, sequence, published, stage, dormant) "
            "SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bytea[], $5::text[], $6::bool[]) "
            "ON CONFLICT (contact_id, cycle) DO UPDATE SET sequence = excluded.sequence, "
            "published = excluded.published, stage = excluded.stage, dormant = excluded.dormant",
            *_columns(rows.publications),
        )


async def _save_timers(connection: Connection, rows: FoldRows) -> None:
    if rows.timers_gone:
        await connection.execute(
            "DELETE FROM scoring.timers t USING unnest($1::text[], $2::text[]) AS w (contact_id, fold) "
            "WHERE t.contact_id = w.contact_id AND t.fold = w.fold",
            *_columns(rows.timers_gone),
        )
    if rows.timers:
        await connection.execute(
            "INSERT INTO scoring.timers (contact_id, fold, due_at) "
            "SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[]) "
            "ON CONFLICT (contact_id, fold) DO UPDATE SET due_at = excluded.due_at",
            *_columns(rows.timers),
        )
