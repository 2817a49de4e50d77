"""What to offer a contact next, and where the catalogue has gaps."""

import msgspec

from libs.common.clock import Clock
from libs.common.db.connection import Connection, Session
from libs.common.db.unit_of_work import unit_of_work
from libs.common.errors import NotFound
from services.orchestrator.domain.content import ContentItem, choose_content
from services.orchestrator.domain.coverage import (
    CoverageCell,
    StageQuestion,
    count_contacts,
    coverage_matrix,
    question_coverage,
)
from services.orchestrator.handlers.play_registry import PlayRegistry
from services.orchestrator.repository import actions, contact_lookup, contact_reader
from services.orchestrator.repository import sweeps as contacts_of
from services.orchestrator.repository.sweeps import SweepRow

BATCH_SIZE = 500
CHANNELS = ("email", "onsite")


class Recommendation(msgspec.Struct, frozen=True):
    """What to offer a contact on a channel, None if nothing fits; and why, item by item."""

    contact_id: str
    channel: str
    content: str | None
    type: str | None
    title: str | None
    url: str | None
    reasons: list[str]


class ContentCoverage(msgspec.Struct, frozen=True):
    """The matrix and the questions of a cycle; `empty` are the cells in which somebody stands and nothing fits."""

    cycle: str
    empty: int
    cells: list[CoverageCell]
    questions: list[StageQuestion]


class RecommendationService:
    """Answers from a workspace's contents."""

    def __init__(self, session: Session, registry: PlayRegistry, clock: Clock) -> None:
        self._session = session
        self._registry = registry
        self._clock = clock

    async def recommend(
        self,
        workspace: str,
        who: str,
        channel: str,
        types: tuple[str, ...],
        fallback: str | None,
        *,
        show: bool,
    ) -> Recommendation:
        """Return what to offer a contact now: same input, same answer. With `show` it counts as shown. Raises NotFound."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            contact = await contact_lookup.get_contact_id(connection, workspace, who)
            snapshot = await self._registry.get_snapshot(connection)
            facts = (await contact_reader.get_facts(connection, [contact], snapshot.vocabulary))[
                contact
            ]
            found = choose_content(
                snapshot.contents.get(workspace, ()), facts, channel, types, fallback
            )
            item = found.item
            if show and item is not None:
                await actions.upsert_exposures(
                    connection, [(contact, item.content, self._clock.now())]
                )
        if item is None:
            return Recommendation(contact, channel, None, None, None, None, list(found.reasons))
        return Recommendation(
            contact, channel, item.content, item.type, item.title, item.url, list(found.reasons)
        )

    async def coverage(self, workspace: str, cycle: str) -> ContentCoverage:
        """Return where contents are missing, the cells with most contacts first. Raises NotFound for no such cycle."""
        async with self._session.acquire() as connection:
            snapshot = await self._registry.get_snapshot(connection)
            words = snapshot.vocabulary.cycles.get(cycle)
            if words is None:
                raise NotFound(f"no cycle {cycle!r} is live")
            counts = await self._counts(connection, workspace, cycle)
        items: list[ContentItem] = list(snapshot.contents.get(workspace, ()))
        cells = coverage_matrix(items, list(words.rings), CHANNELS, counts, cycle)
        asked = question_coverage(items, words.questions, counts, cycle)
        return ContentCoverage(
            cycle, sum(not cell.contents and cell.contacts > 0 for cell in cells), cells, asked
        )

    async def _counts(
        self, connection: Connection, workspace: str, cycle: str
    ) -> dict[tuple[str, str], int]:
        snapshot = await self._registry.get_snapshot(connection)
        everybody = SweepRow("", workspace, "", None, "", None)
        counts: dict[tuple[str, str], int] = {}
        while found := await contacts_of.list_next_contacts(connection, everybody, BATCH_SIZE):
            everybody = msgspec.structs.replace(everybody, reached=found[-1])
            known = await contact_reader.get_facts(connection, found, snapshot.vocabulary)
            for place, count in count_contacts(known.values(), cycle).items():
                counts[place] = counts.get(place, 0) + count
        return counts
