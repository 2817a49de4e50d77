"""Application service for recommendations: the content to offer next, and gaps in the contents."""

import msgspec

from libs.common.clock import Clock
from libs.common.db.connection import Connection, Session
from libs.common.db.unit_of_work import unit_of_work
from libs.common.errors import NotFound
from libs.common.ids import ContactId, WorkspaceId
from services.orchestrator.domain.content import ContentItem, choose_content
from services.orchestrator.domain.coverage import (
    CoverageCell,
    StageQuestion,
    count_contacts,
    coverage_matrix,
    question_coverage,
)
from services.orchestrator.domain.cycle_vocabulary import CycleVocabularies
from services.orchestrator.handlers.play_registry import PlayRegistry
from services.orchestrator.repository import contact_lookup, contact_reader, exposures, sweeps
from services.orchestrator.repository.sweeps import SweepRow

BATCH_SIZE = 500
CHANNELS = ("email", "onsite")


class Recommendation(msgspec.Struct, frozen=True):
    """The content to offer a contact on a channel, or None; `reasons` are item by item."""

    contact_id: ContactId
    channel: str
    content: str | None
    type: str | None
    title: str | None
    url: str | None
    reasons: list[str]


class ContentCoverage(msgspec.Struct, frozen=True):
    """Matrix and stage questions of a cycle; `empty` counts cells with contacts but no content."""

    cycle: str
    empty: int
    cells: list[CoverageCell]
    questions: list[StageQuestion]


class RecommendationService:
    """Chooses from the contents of a workspace."""

    def __init__(self, session: Session, registry: PlayRegistry, clock: Clock) -> None:
        self._session = session
        self._registry = registry
        self._clock = clock

    async def recommend(
        self,
        workspace: WorkspaceId,
        reference: str,
        channel: str,
        types: tuple[str, ...],
        fallback: str | None,
        *,
        show: bool,
    ) -> Recommendation:
        """Return the recommendation of now; equal inputs give equal ones. Raises NotFound.

        With `show` it counts as an exposure.
        """
        async with self._session.acquire() as connection, unit_of_work(connection):
            contact = await contact_lookup.get_contact_id(connection, workspace, reference)
            snapshot = await self._registry.get_snapshot(connection)
            facts = await contact_reader.get_facts(connection, [contact], snapshot.vocabulary)
            items = snapshot.contents.get(workspace, ())
            choice = choose_content(items, facts[contact], channel, types, fallback)
            item = choice.item
            if show and item is not None:
                await exposures.upsert_exposures(
                    connection, [(contact, item.content, self._clock.now())]
                )
        reasons = list(choice.reasons)
        if item is None:
            return Recommendation(contact, channel, None, None, None, None, reasons)
        return Recommendation(
            contact, channel, item.content, item.type, item.title, item.url, reasons
        )

    async def coverage(self, workspace: WorkspaceId, cycle: str) -> ContentCoverage:
        """Return the coverage of a cycle, cells with most contacts first. Raises NotFound."""
        async with self._session.acquire() as connection:
            snapshot = await self._registry.get_snapshot(connection)
            names = snapshot.vocabulary.cycles.get(cycle)
            if names is None:
                raise NotFound(f"no cycle {cycle!r} is live")
            counts = await _count_contacts(connection, workspace, cycle, snapshot.vocabulary)
        items: list[ContentItem] = list(snapshot.contents.get(workspace, ()))
        cells = coverage_matrix(items, list(names.rings), CHANNELS, counts, cycle)
        questions = question_coverage(items, names.questions, counts, cycle)
        empty = sum(not cell.contents and cell.contacts > 0 for cell in cells)
        return ContentCoverage(cycle, empty, cells, questions)


async def _count_contacts(
    connection: Connection, workspace: WorkspaceId, cycle: str, vocabulary: CycleVocabularies
) -> dict[tuple[str, str], int]:
    """Return the numbers of contacts by cell of the coverage matrix."""
    scan = SweepRow("", workspace, "", None, "", None)
    counts: dict[tuple[str, str], int] = {}
    while contacts := await sweeps.list_next_contacts(connection, scan, BATCH_SIZE):
        scan = msgspec.structs.replace(scan, reached=contacts[-1])
        facts = await contact_reader.get_facts(connection, contacts, vocabulary)
        for cell, count in count_contacts(facts.values(), cycle).items():
            counts[cell] = counts.get(cell, 0) + count
    return counts
