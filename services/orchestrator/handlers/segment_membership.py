"""Membership of watched segments; entries and exits are published as signals.

Events are evaluated as they are consumed. A sweep evaluates all contacts every quarter of an hour,
since the passing of time alone can make conditions true. The first sweep of a segment, or after a
change of its condition, announces nothing: contacts that match by then have not entered it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from libs.common import ids
from libs.common.db.connection import Connection
from libs.common.db.outbox import Outbox
from libs.common.ids import ContactId, WorkspaceId
from libs.common.instants import to_iso
from libs.common.messages import Message, Signal, build_message
from services.orchestrator.domain.condition_evaluator import condition_holds
from services.orchestrator.domain.contact_facts import ContactFacts
from services.orchestrator.domain.segment import WatchedSegment, entry_signal, exit_signal
from services.orchestrator.repository import contact_reader, segment_members

SIGNAL_SOURCE = "orchestrator"


class MemberKey(NamedTuple):
    """Membership of a canonical contact in a segment."""

    segment: str
    contact: ContactId


async def select_announced(
    connection: Connection,
    workspace: WorkspaceId,
    watched: Sequence[WatchedSegment],
    aliases: Mapping[ContactId, ContactId],
) -> tuple[list[WatchedSegment], set[ContactId], set[ContactId]]:
    """Return (segments after their first sweep, contacts to evaluate, costly contacts).

    Events let no contact enter a costly segment: only its members are evaluated, and returned as
    costly contacts as well. `aliases` are all ids of the contacts with their canonical ids.
    """
    if not watched:
        return [], set(), set()
    swept = await segment_members.list_swept(
        connection, workspace, [(segment.name, segment.mark) for segment in watched]
    )
    announced = [segment for segment in watched if segment.name in swept]
    costly_names = [segment.name for segment in announced if segment.costly]
    rows = (
        await segment_members.list_of_contacts(connection, workspace, costly_names, aliases)
        if costly_names
        else []
    )
    costly_contacts = {aliases[contact] for _, contact, _ in rows}
    if all(segment.costly for segment in announced):
        return announced, costly_contacts, costly_contacts
    return announced, set(aliases.values()), costly_contacts


async def update_memberships(
    connection: Connection,
    outbox: Outbox,
    scope: tuple[WorkspaceId, Sequence[WatchedSegment], int],
    facts: Mapping[ContactId, ContactFacts],
    *,
    announce: bool = True,
    live: bool = False,
) -> None:
    """Update the memberships of contacts, and publish entries and exits if `announce` is set.

    `scope` is (workspace, segments, now in µs UTC); `facts` are those of the contacts by canonical
    id. With `live`, no contact enters a costly segment.
    """
    workspace, watched, now = scope
    aliases = await contact_reader.get_aliases(connection, facts)
    rows = await segment_members.list_of_contacts(
        connection, workspace, [segment.name for segment in watched], aliases
    )
    since_by_member: dict[MemberKey, int] = {}
    for segment, alias, since in rows:
        key = MemberKey(segment, aliases[alias])
        since_by_member[key] = min(since, since_by_member.get(key, since))
    stored_under_alias = {
        MemberKey(segment, aliases[alias]) for segment, alias, _ in rows if aliases[alias] != alias
    }
    entered, exited = list[MemberKey](), list[MemberKey]()
    for watched_segment in watched:
        for contact, of_contact in facts.items():
            key = MemberKey(watched_segment.name, contact)
            matches = condition_holds(watched_segment.test, of_contact, now)
            may_enter = not (live and watched_segment.costly)
            if matches and key not in since_by_member and may_enter:
                entered.append(key)
            elif key in since_by_member and not matches:
                exited.append(key)
    # After a merge the rows of the alias become the survivor's.
    moved = stored_under_alias - set(exited)
    await segment_members.delete_members(
        connection,
        workspace,
        [
            (segment, alias)
            for segment, contact in {*exited, *stored_under_alias}
            for alias, canonical in aliases.items()
            if canonical == contact
        ],
    )
    await segment_members.upsert_members(
        connection,
        workspace,
        [
            *((segment, contact, now) for segment, contact in entered),
            *((*key, since_by_member[key]) for key in sorted(moved)),
        ],
    )
    if announce:
        signals = _build_signals(workspace, entered, exited, since_by_member, now)
        await outbox.insert_messages(connection, [*signals])


def _build_signals(
    workspace: WorkspaceId,
    entered: Sequence[MemberKey],
    exited: Sequence[MemberKey],
    since_by_member: Mapping[MemberKey, int],
    now: int,
) -> Iterator[Message]:
    for key in entered:
        yield _build_signal(workspace, entry_signal(key[0]), key, now, now)
    for key in exited:
        yield _build_signal(workspace, exit_signal(key[0]), key, since_by_member[key], now)


def _build_signal(
    workspace: WorkspaceId, signal: str, key: MemberKey, since: int, now: int
) -> Message:
    segment, contact = key
    message_id = ids.derive_id("segment", workspace, signal, contact, str(since))
    model = Signal(
        id=message_id,
        workspace=workspace,
        contact_id=contact,
        cycle="",
        signal=signal,
        occurred_at=now,
        received_at=now,
        source=SIGNAL_SOURCE,
        message_id=message_id,
        properties={"segment": segment, "since": to_iso(since)},
    )
    return build_message(
        model, key=contact, message_id=message_id, source="/orchestrator", time=now
    )
