"""Who comes into the watched segments and who leaves them: told as signals, on what people do and as time passes.

An event is looked at when it is heard; everybody is looked at every quarter of an hour, since time alone lets conditions come
true too. The first look at a segment, and the first after its condition has changed, tells nobody: who is in it then has not come
into it.
"""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from libs.common import ids
from libs.common.clock import Clock
from libs.common.db.connection import Connection, Session
from libs.common.db.outbox import Outbox
from libs.common.errors import NotFound
from libs.common.instants import to_iso
from libs.common.messages import Message, Signal, build_message
from services.orchestrator.domain.condition_evaluator import condition_holds
from services.orchestrator.domain.contact_facts import ContactFacts
from services.orchestrator.domain.cycle_vocabulary import CycleVocabularies
from services.orchestrator.domain.segment import WatchedSegment, entry_signal, exit_signal
from services.orchestrator.handlers.play_registry import PlayRegistry
from services.orchestrator.repository import contact_reader, segment_members

SIGNAL_SOURCE = "orchestrator"


class SegmentMember(msgspec.Struct, frozen=True):
    """Somebody in a segment, whose it is, and until when somebody is to have taken care."""

    contact_id: str
    email: str | None
    stage: str | None
    owner: str
    since: str
    deadline: str | None
    overdue: bool


class SegmentSize(msgspec.Struct, frozen=True):
    """A watched segment."""

    segment: str
    contacts: int
    within: int | None
    """µs"""


async def select_announced(
    connection: Connection,
    workspace: str,
    watched: Sequence[WatchedSegment],
    relatives: Mapping[str, str],
) -> tuple[list[WatchedSegment], set[str], set[str]]:
    """Return the segments that everybody was looked at for once, and the contacts that what they do may move.

    Into one that is costly nobody comes by doing something: only its members are looked at, and returned apart as well.
    `relatives` are all ids of the contacts, each with its survivor.
    """
    if not watched:
        return [], set(), set()
    known = await segment_members.list_swept(
        connection, workspace, [(one.name, one.mark) for one in watched]
    )
    live = [one for one in watched if one.name in known]
    names = [one.name for one in live if one.costly]
    rows = (
        await segment_members.list_of_contacts(connection, workspace, names, relatives)
        if names
        else []
    )
    members = {relatives[contact] for _, contact, _ in rows}
    return live, members if all(one.costly for one in live) else set(relatives.values()), members


async def update_memberships(
    connection: Connection,
    outbox: Outbox,
    place: tuple[str, Sequence[WatchedSegment], int],
    known: Mapping[str, ContactFacts],
    *,
    tell: bool = True,
    live: bool = False,
) -> None:
    """Note who of these contacts came into the segments of a (workspace, segments, now) and who left; tell it as signals.

    `live` says that only members are looked at for segments that are costly: nobody comes into those.
    """
    workspace, watched, now = place
    relatives = await contact_reader.get_aliases(connection, known)
    rows = await segment_members.list_of_contacts(
        connection, workspace, [one.name for one in watched], relatives
    )
    inside: dict[tuple[str, str], int] = {}
    for segment, contact, since in rows:
        place_of = (segment, relatives[contact])
        inside[place_of] = min(since, inside.get(place_of, since))
    merged = {
        (segment, relatives[contact])
        for segment, contact, _ in rows
        if relatives[contact] != contact
    }
    joined, gone = list[tuple[str, str]](), list[tuple[str, str]]()
    for one in watched:
        for contact, facts in known.items():
            member, belongs = (one.name, contact) in inside, condition_holds(one.test, facts, now)
            if belongs and not member and not (live and one.costly):
                joined.append((one.name, contact))
            elif member and not belongs:
                gone.append((one.name, contact))
    staying = merged - set(
        gone
    )  # what was noted under an id that was merged becomes the survivor's
    await segment_members.delete_members(
        connection,
        workspace,
        [(s, r) for s, c in {*gone, *merged} for r, to in relatives.items() if to == c],
    )
    came = [(segment, contact, now) for segment, contact in joined]
    await segment_members.upsert_members(
        connection, workspace, [*came, *((*one, inside[one]) for one in sorted(staying))]
    )
    if tell:
        await outbox.insert_messages(connection, [*_signals(workspace, joined, gone, inside, now)])


def _signals(
    workspace: str,
    joined: Sequence[tuple[str, str]],
    gone: Sequence[tuple[str, str]],
    inside: Mapping[tuple[str, str], int],
    now: int,
) -> Iterator[Message]:
    yield from (
        _signal(workspace, entry_signal(name), name, contact, now, now) for name, contact in joined
    )
    for name, contact in gone:
        yield _signal(workspace, exit_signal(name), name, contact, inside[name, contact], now)


def _signal(
    workspace: str, signal: str, segment: str, contact: str, since: int, now: int
) -> Message:
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


class SegmentService:
    """Shows who is in which segment."""

    def __init__(self, session: Session, registry: PlayRegistry, clock: Clock) -> None:
        self._session = session
        self._registry = registry
        self._clock = clock

    async def list_sizes(self, workspace: str) -> list[SegmentSize]:
        """Return the watched segments."""
        async with self._session.acquire() as connection:
            watched = (await self._registry.get_snapshot(connection)).watched.get(workspace, ())
            counts = await segment_members.count_members(connection, workspace)
        return [SegmentSize(one.name, counts.get(one.name, 0), one.within) for one in watched]

    async def list_members(self, workspace: str, name: str, limit: int) -> list[SegmentMember]:
        """Return who is in a watched segment, who has waited longest first. Raises NotFound."""
        async with self._session.acquire() as connection:
            snapshot = await self._registry.get_snapshot(connection)
            one = next(
                (one for one in snapshot.watched.get(workspace, ()) if one.name == name), None
            )
            if one is None:
                raise NotFound(
                    f"no segment {name!r} is watched: give it 'publish: true', or let a play start by it"
                )
            found = await segment_members.list_members(connection, workspace, name, limit)
            known = await contact_reader.get_facts(
                connection, [contact for contact, _ in found], snapshot.vocabulary
            )
        now = self._clock.now()
        return [
            _member(known[contact], since, one.within, snapshot.vocabulary, now)
            for contact, since in found
        ]


def _member(
    facts: ContactFacts, since: int, within: int | None, vocabulary: CycleVocabularies, now: int
) -> SegmentMember:
    cycle, standing = next(iter(sorted(facts.standings.items(), reverse=True)), (None, None))
    words = vocabulary.cycles.get(cycle or "")
    of_stage = words.owners.get(standing.stage, "") if words and standing else ""
    owner = facts.traits.get("owner")
    deadline = since + within if within is not None else None
    return SegmentMember(
        facts.contact_id,
        facts.email,
        standing.stage if standing else None,
        owner if isinstance(owner, str) and owner else of_stage,
        to_iso(since),
        to_iso(deadline) if deadline is not None else None,
        deadline is not None and now > deadline,
    )
