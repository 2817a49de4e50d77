"""Messages about contacts: stage changes, compelling events and snapshots on `contacts`."""

from collections.abc import Iterable, Sequence

from libs.common.db.connection import Connection
from libs.common.ids import ContactId
from libs.common.messages import Message
from libs.common.messages.contact import ContactSnapshot
from services.scoring.domain import compelling_triggers, contact_profile, outgoing_messages
from services.scoring.domain.cycle import ActiveCycle
from services.scoring.handlers.compelling_events import raise_new_events
from services.scoring.handlers.pending_writes import PendingChange, PendingWrites
from services.scoring.repository import contacts
from services.scoring.repository.contacts import ContactSummary


async def raise_events_and_build_messages(
    connection: Connection,
    cycles: Sequence[ActiveCycle],
    contacts_to_publish: Iterable[ContactId],
    merged: dict[ContactId, ContactId],
    results: PendingWrites | None = None,
) -> list[Message]:
    """Raise the compelling events of `results` and return all messages about the contacts.

    To be called after the contacts' rows are written, since the summaries are read from them. Then
    the events' rows are locked and inserted. In the order of the result: the stage changes of
    `results`, its new compelling events, and one snapshot per contact. A merged contact ({merged
    id: surviving id}) gets a snapshot with `merged_into`, followed by a tombstone.
    """
    summaries = await contacts.get_summaries(connection, sorted({*contacts_to_publish, *merged}))
    now = await contacts.get_transaction_time(connection) if summaries else 0
    messages: list[Message] = []
    if results:
        messages += _build_stage_changes(results, summaries)
        messages += await _raise_events(connection, results)
    for summary in summaries:
        snapshot = _build_snapshot(summary, cycles, merged.get(summary.contact_id))
        messages.append(outgoing_messages.snapshot_message(snapshot, now))
        if summary.contact_id in merged:
            messages.append(outgoing_messages.tombstone_message(summary.contact_id))
    return messages


def _build_stage_changes(
    results: PendingWrites, summaries: Sequence[ContactSummary]
) -> list[Message]:
    identifiers = {
        summary.contact_id: [
            *(f"user_id:{user_id}" for user_id in summary.user_ids),
            *summary.verified_identifiers,
        ]
        for summary in summaries
    }
    return [
        _build_stage_change(results, pending, identifiers.get(pending.subject, ()))
        for pending in results.changes
    ]


def _build_stage_change(
    results: PendingWrites, pending: PendingChange, identifiers: Sequence[str]
) -> Message:
    move = pending.change.move
    trace = None if move.timed else results.traces.get((move.at, move.source, move.message_id))
    return outgoing_messages.stage_change_message(
        pending.engine, pending.workspace, pending.subject, pending.change, identifiers, trace
    )


async def _raise_events(connection: Connection, results: PendingWrites) -> list[Message]:
    """Raise the events of signals and stage changes; return their messages."""
    events = list(results.compelling_events)
    for pending in results.changes:
        events += compelling_triggers.events_from_change(
            pending.engine, pending.workspace, pending.subject, pending.change
        )
    return (
        await raise_new_events(connection, events, await contacts.get_transaction_time(connection))
        if events
        else []
    )


def _build_snapshot(
    summary: ContactSummary, cycles: Sequence[ActiveCycle], merged_into: ContactId | None
) -> ContactSnapshot:
    is_merged = merged_into is not None
    positions = {
        cycle.engine.name: outgoing_messages.cycle_state(
            cycle.engine, summary.published[cycle.engine.name]
        )
        for cycle in cycles
        if cycle.live and cycle.engine.name in summary.published
    }
    return ContactSnapshot(
        workspace=summary.workspace,
        contact_id=summary.contact_id,
        version=summary.version,
        user_ids=[] if is_merged else summary.user_ids,
        anonymous_ids=[] if is_merged else summary.anonymous_ids,
        identifiers=[] if is_merged else summary.verified_identifiers,
        traits=contact_profile.trait_values(contact_profile.decode_profile(summary.profile)),
        cycles={} if is_merged else positions,
        merged_into=merged_into,
    )
