"""Application service for watched segments: sizes, and members with owner and deadline."""

import msgspec

from libs.common.clock import Clock
from libs.common.db.connection import Session
from libs.common.errors import NotFound
from libs.common.ids import ContactId, WorkspaceId
from libs.common.instants import to_iso
from services.orchestrator.domain.contact_facts import ContactFacts
from services.orchestrator.domain.cycle_vocabulary import CycleVocabularies
from services.orchestrator.handlers.play_registry import PlayRegistry
from services.orchestrator.repository import contact_reader, segment_members


class SegmentMember(msgspec.Struct, frozen=True):
    """A member with its owner, and the deadline by which the owner has to act (RFC 3339)."""

    contact_id: ContactId
    email: str | None
    stage: str | None
    owner: str
    since: str
    deadline: str | None
    overdue: bool


class SegmentSize(msgspec.Struct, frozen=True):
    """A watched segment with its number of members."""

    segment: str
    contacts: int
    within: int | None
    """Time in which the owner has to act (µs)."""


class SegmentService:
    """Reads the watched segments of a workspace."""

    def __init__(self, session: Session, registry: PlayRegistry, clock: Clock) -> None:
        self._session = session
        self._registry = registry
        self._clock = clock

    async def list_sizes(self, workspace: WorkspaceId) -> list[SegmentSize]:
        """Return the watched segments."""
        async with self._session.acquire() as connection:
            snapshot = await self._registry.get_snapshot(connection)
            counts = await segment_members.count_members(connection, workspace)
        return [
            SegmentSize(segment.name, counts.get(segment.name, 0), segment.within)
            for segment in snapshot.watched.get(workspace, ())
        ]

    async def list_members(
        self, workspace: WorkspaceId, name: str, limit: int
    ) -> list[SegmentMember]:
        """Return members of a watched segment, the longest member first. Raises NotFound."""
        async with self._session.acquire() as connection:
            snapshot = await self._registry.get_snapshot(connection)
            watched = snapshot.watched.get(workspace, ())
            segment = next((segment for segment in watched if segment.name == name), None)
            if segment is None:
                raise NotFound(
                    f"no segment {name!r} is watched: give it 'publish: true', "
                    "or let a play start by it"
                )
            rows = await segment_members.list_members(connection, workspace, name, limit)
            facts = await contact_reader.get_facts(
                connection, [contact for contact, _ in rows], snapshot.vocabulary
            )
        now = self._clock.now()
        return [
            _to_member(facts[contact], since, segment.within, snapshot.vocabulary, now)
            for contact, since in rows
        ]


def _to_member(
    facts: ContactFacts, since: int, within: int | None, vocabulary: CycleVocabularies, now: int
) -> SegmentMember:
    """Return a member; its owner is the trait `owner`, else the owner of its stage."""
    cycle, standing = next(iter(sorted(facts.standings.items(), reverse=True)), (None, None))
    names = vocabulary.cycles.get(cycle or "")
    stage_owner = names.owners.get(standing.stage, "") if names and standing else ""
    owner = facts.traits.get("owner")
    deadline = since + within if within is not None else None
    return SegmentMember(
        facts.contact_id,
        facts.email,
        standing.stage if standing else None,
        owner if isinstance(owner, str) and owner else stage_owner,
        to_iso(since),
        to_iso(deadline) if deadline is not None else None,
        deadline is not None and now > deadline,
    )
