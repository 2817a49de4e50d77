"""What a transaction tells of contacts: their stage changes, and the snapshots on `contacts`, one per contact and batch."""

from collections.abc import Iterable, Sequence

from libs.common.db.connection import Connection
from libs.common.messages import Message
from libs.common.messages.contact import ContactSnapshot
from services.scoring.domain import compelling_triggers, contact_profile, outgoing_messages
from services.scoring.domain.cycle import ActiveCycle
from services.scoring.handlers.compelling_events import raise_new_events
from services.scoring.handlers.fold_results import FoldResults, PendingChange
from services.scoring.repository import contacts


async def build_contact_messages(
    connection: Connection,
    cycles: Sequence[ActiveCycle],
    told: Iterable[str],
    merged: dict[str, str],
    work: FoldResults | None = None,
) -> list[Message]:
    """Return the changes of `work`, the snapshots of `told` as they stand in this transaction, and the end of the merged.

    That is `merged_into` and then a tombstone.
    """
    found = await contacts.get_summaries(connection, sorted({*told, *merged}))
    now = await contacts.get_transaction_time(connection) if found else 0
    known_by = {
        s.contact_id: [*(f"user_id:{name}" for name in s.user_ids), *s.others] for s in found
    }
    messages = (
        [_change(work, one, known_by.get(one.subject, ())) for one in work.changes] if work else []
    )
    if work:
        messages += await _urgent(connection, work)
    for summary in found:
        positions = {
            cycle.engine.name: outgoing_messages.cycle_state(
                cycle.engine, summary.published[cycle.engine.name]
            )
            for cycle in cycles
            if cycle.live and cycle.engine.name in summary.published
        }
        gone = summary.contact_id in merged
        model = ContactSnapshot(
            workspace=summary.workspace,
            contact_id=summary.contact_id,
            version=summary.version,
            user_ids=[] if gone else summary.user_ids,
            anonymous_ids=[] if gone else summary.anonymous_ids,
            identifiers=[] if gone else summary.others,
            traits=contact_profile.trait_values(contact_profile.decode_profile(summary.profile)),
            cycles={} if gone else positions,
            merged_into=merged.get(summary.contact_id),
        )
        messages.append(outgoing_messages.snapshot_message(model, now))
        if gone:
            messages.append(outgoing_messages.tombstone_message(summary.contact_id))
    return messages


async def _urgent(connection: Connection, work: FoldResults) -> list[Message]:
    """Raise what signals and moves raise."""
    moves = [
        compelling_triggers.events_from_change(one.engine, one.workspace, one.subject, one.change)
        for one in work.changes
    ]
    events = [*work.urgent, *(event for found in moves for event in found)]
    return (
        await raise_new_events(connection, events, await contacts.get_transaction_time(connection))
        if events
        else []
    )


def _change(work: FoldResults, one: PendingChange, known_by: Sequence[str]) -> Message:
    move = one.change.move
    trace = None if move.timed else work.traces.get((move.at, move.source, move.message_id))
    return outgoing_messages.stage_change_message(
        one.engine, one.workspace, one.subject, one.change, known_by, trace
    )
