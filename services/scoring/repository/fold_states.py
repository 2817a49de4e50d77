"""Fold states, open transitions, publications, timers, fold errors and the re-fold queue."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from libs.common.db.connection import Connection
from libs.common.db.notifications import notify, with_notification
from libs.common.errors import Unavailable
from libs.common.ids import ContactId
from services.scoring.domain.identity import Key
from services.scoring.domain.move import decode_move
from services.scoring.domain.publication import PublishedPosition
from services.scoring.repository import state_snapshots
from services.scoring.repository.fold_rows import (
    FoldKey,
    FoldRows,
    FoldStateRow,
    OpenMove,
    PublicationKey,
)

REFOLDS_CHANNEL = "scoring_refolds"
"""Notified when contacts are queued for a refold."""
_published = msgspec.msgpack.Decoder(PublishedPosition)


class RefoldRequest(msgspec.Struct, frozen=True):
    """An entry of the re-fold queue: the reason, and the first key to fold again.

    `rebuild_profile` (column `relearn`) also rebuilds the contact's traits from its touchpoints.
    """

    reason: str
    start: Key
    rebuild_profile: bool = False


async def get_states(
    connection: Connection, contacts: Sequence[ContactId]
) -> dict[FoldKey, FoldStateRow]:
    """Return the stored states and timers of the contacts, in every fold."""
    rows = await connection.fetch(
        "SELECT contact_id, fold, s.state, s.stored_seq, t.due_at FROM scoring.contact_states s "
        "LEFT JOIN scoring.timers t USING (contact_id, fold) WHERE contact_id = ANY($1::text[])",
        list(contacts),
    )
    return {FoldKey(r[0], r[1]): FoldStateRow(r[2], r[3], r[4]) for r in rows}


async def get_publications(
    connection: Connection, contacts: Sequence[ContactId]
) -> dict[PublicationKey, PublishedPosition]:
    """Return the last published position of the contacts in every cycle."""
    rows = await connection.fetch(
        "SELECT contact_id, cycle, published FROM scoring.publications "
        "WHERE contact_id = ANY($1::text[])",
        list(contacts),
    )
    return {PublicationKey(r[0], r[1]): _published.decode(r[2]) for r in rows}


async def list_open_moves(
    connection: Connection, first_seqs: Mapping[FoldKey, int]
) -> dict[FoldKey, list[OpenMove]]:
    """Return each fold's open transitions with `seq` at or above the given one, in `seq` order."""
    fold_keys = sorted(first_seqs)
    moves: dict[FoldKey, list[OpenMove]] = {fold_key: [] for fold_key in fold_keys}
    rows = await connection.fetch(
        "SELECT contact_id, fold, move, received_at FROM scoring.transitions "
        "JOIN unnest($1::text[], $2::text[], $3::int[]) AS w (contact_id, fold, first) "
        "USING (contact_id, fold) "
        "WHERE known_to IS NULL AND seq >= w.first ORDER BY seq",
        [contact for contact, _ in fold_keys],
        [fold for _, fold in fold_keys],
        [first_seqs[fold_key] for fold_key in fold_keys],
    )
    for contact_id, fold, encoded, received_at in rows:
        moves[FoldKey(contact_id, fold)].append(
            OpenMove(decode_move(encoded), encoded, received_at)
        )
    return moves


async def get_queued_refolds(
    connection: Connection, contacts: Iterable[ContactId]
) -> dict[ContactId, RefoldRequest]:
    """Return the queue entries of the contacts that are in the re-fold queue."""
    rows = await connection.fetch(
        "SELECT contact_id, reason, from_at, from_source, from_message_id, relearn "
        "FROM scoring.refolds WHERE contact_id = ANY($1::text[])",
        sorted(contacts),
    )
    return {r[0]: RefoldRequest(r[1], (r[2], r[3], r[4]), r[5]) for r in rows}


async def enqueue_refolds(
    connection: Connection, requests: Mapping[ContactId, RefoldRequest]
) -> None:
    """Insert contacts into the re-fold queue; a queued contact gets the earlier of both keys.

    The new reason replaces the queued one, with two exceptions: a queued `history` stays, since it
    decides how the result is published, and a new `refolding` replaces nothing.
    """
    if requests:
        statement = (
            "INSERT INTO scoring.refolds "
            "(contact_id, reason, from_at, from_source, from_message_id, relearn) SELECT * FROM "
            "unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::bool[]) "
            "ON CONFLICT (contact_id) DO UPDATE SET touched_at = now(), "
            "reason = CASE WHEN refolds.reason = 'history' OR excluded.reason = 'refolding' "
            "THEN refolds.reason ELSE excluded.reason END, "
            "(from_at, from_source, from_message_id) = (SELECT * FROM (VALUES "
            "(refolds.from_at, refolds.from_source, refolds.from_message_id), "
            "(excluded.from_at, excluded.from_source, excluded.from_message_id)) v "
            "ORDER BY 1, 2, 3 LIMIT 1), "
            "relearn = refolds.relearn OR excluded.relearn"
        )
        await connection.execute(
            with_notification(statement, REFOLDS_CHANNEL),
            *_columns(
                [(c, r.reason, *r.start, r.rebuild_profile) for c, r in sorted(requests.items())]
            ),
        )


async def enqueue_all_refolds(connection: Connection) -> int:
    """Queue every contact that is not merged or queued already; return their number.

    Until the queue is empty, the stream stores the contacts' touchpoints without folding them.
    """
    status: str = await connection.execute(
        "INSERT INTO scoring.refolds (contact_id, reason) "
        "SELECT contact_id, 'cycle_published' FROM scoring.contacts "
        "WHERE merged_into IS NULL ON CONFLICT DO NOTHING"
    )
    await notify(connection, REFOLDS_CHANNEL)
    return int(status.rsplit(" ", 1)[1])


async def dequeue_refolds(connection: Connection, contacts: Sequence[ContactId]) -> None:
    """Delete the contacts' entries from the re-fold queue."""
    await connection.execute(
        "DELETE FROM scoring.refolds WHERE contact_id = ANY($1::text[])", list(contacts)
    )


async def delete_fold_errors(connection: Connection, contacts: Sequence[ContactId]) -> None:
    """Delete the fold errors of contacts that are folded again."""
    await connection.execute(
        "DELETE FROM scoring.fold_errors WHERE contact_id = ANY($1::text[])", list(contacts)
    )


async def upsert_fold_errors(
    connection: Connection, fold_errors: Sequence[tuple[str, str, str]]
) -> None:
    """Store (contact id, fold, error) of folds that raised; the last good state stays."""
    if fold_errors:
        await connection.execute(
            "INSERT INTO scoring.fold_errors (contact_id, fold, error) "
            "SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) "
            "ON CONFLICT (contact_id, fold) DO UPDATE SET error = excluded.error, at = now()",
            *_columns(fold_errors),
        )


async def upsert_rows(connection: Connection, rows: FoldRows) -> None:
    """Write the rows of a fold transaction, in one order, with one statement per table and kind.

    The order: contacts, states, transitions, publications, timers, state snapshots. The caller has
    locked the contacts (or accounts). Raises Unavailable if a cached state turns out to be stale.
    """
    await _update_contacts(connection, rows)
    await _upsert_states(connection, rows)
    await _insert_transitions(connection, rows)
    await _upsert_publications(connection, rows)
    await _upsert_timers(connection, rows)
    await state_snapshots.update_snapshots(
        connection, rows.snapshot_cuts, rows.deleted_snapshots, rows.snapshots
    )


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


async def _update_contacts(connection: Connection, rows: FoldRows) -> None:
    if rows.contacts:
        values = [(c, profile, changed) for c, (profile, changed) in sorted(rows.contacts.items())]
        await connection.execute(
            "UPDATE scoring.contacts c SET version = version + 1, "
            "profile = coalesce(w.profile, c.profile), "
            "identity_version = identity_version + w.changed::int "
            "FROM unnest($1::text[], $2::text[], $3::bool[]) AS w (contact_id, profile, changed) "
            "WHERE c.contact_id = w.contact_id",
            *_columns(values),
        )


async def _upsert_states(connection: Connection, rows: FoldRows) -> None:
    if rows.deleted_states:
        await connection.execute(
            "DELETE FROM scoring.contact_states s "
            "USING unnest($1::text[], $2::text[]) AS w (contact_id, fold) "
            "WHERE (s.contact_id, s.fold) = (w.contact_id, w.fold)",
            *_columns(rows.deleted_states),
        )
    if rows.states:
        status: str = await connection.execute(
            "UPDATE scoring.contact_states s SET state = w.state, stored_seq = w.stored_seq "
            "FROM unnest($1::text[], $2::text[], $3::bytea[], $4::int[]) "
            "AS w (contact_id, fold, state, stored_seq) "
            "WHERE s.contact_id = w.contact_id AND s.fold = w.fold",
            *_columns(rows.states),
        )
        if status != f"UPDATE {len(rows.states)}":
            # The entries were popped from the cache, so the retried batch reads the database.
            raise Unavailable(
                f"{status.split()[1]} of {len(rows.states)} states were updated: "
                "the contact cache was stale"
            )
    if rows.new_states:
        await connection.copy_records_to_table(
            "contact_states",
            schema_name="scoring",
            columns=["contact_id", "fold", "state", "stored_seq"],
            records=rows.new_states,
        )


async def _insert_transitions(connection: Connection, rows: FoldRows) -> None:
    if rows.closed_moves:
        await connection.execute(
            "UPDATE scoring.transitions t SET known_to = now() "
            "FROM unnest($1::text[], $2::text[], $3::int[]) AS w (contact_id, fold, seq) "
            "WHERE (t.contact_id, t.fold, t.seq) = (w.contact_id, w.fold, w.seq) "
            "AND t.known_to IS NULL",
            *_columns(rows.closed_moves),
        )
    if rows.transitions:
        await connection.copy_records_to_table(
            "transitions",
            schema_name="scoring",
            columns=["contact_id", "fold", "seq", "occurred_at", "move", "received_at"],
            records=rows.transitions,
        )


async def _upsert_publications(connection: Connection, rows: FoldRows) -> None:
    if rows.publications:
        await connection.execute(
            "INSERT INTO scoring.publications "
            "(contact_id, cycle, sequence, published, stage, dormant) SELECT * FROM "
            "unnest($1::text[], $2::text[], $3::bigint[], $4::bytea[], $5::text[], $6::bool[]) "
            "ON CONFLICT (contact_id, cycle) DO UPDATE SET sequence = excluded.sequence, "
            "published = excluded.published, stage = excluded.stage, "
            "dormant = excluded.dormant",
            *_columns(rows.publications),
        )


async def _upsert_timers(connection: Connection, rows: FoldRows) -> None:
    if rows.deleted_timers:
        await connection.execute(
            "DELETE FROM scoring.timers t "
            "USING unnest($1::text[], $2::text[]) AS w (contact_id, fold) "
            "WHERE t.contact_id = w.contact_id AND t.fold = w.fold",
            *_columns(rows.deleted_timers),
        )
    if rows.timers:
        await connection.execute(
            "INSERT INTO scoring.timers (contact_id, fold, due_at) "
            "SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[]) "
            "ON CONFLICT (contact_id, fold) DO UPDATE SET due_at = excluded.due_at",
            *_columns(rows.timers),
        )
