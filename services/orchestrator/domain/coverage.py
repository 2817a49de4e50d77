"""Content coverage: contents per stage, awareness level and channel, and answers per question."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from services.orchestrator.domain.contact_facts import ContactFacts
from services.orchestrator.domain.content import AWARENESS_LEVELS, ContentItem, awareness_level


class CoverageCell(msgspec.Struct, frozen=True):
    """A cell of the matrix with its numbers of fitting contents and of contacts."""

    stage: str
    level: str
    channel: str
    contents: int
    contacts: int


class StageQuestion(msgspec.Struct, frozen=True):
    """The guiding question of a stage, with the contents that answer it."""

    stage: str
    question: str
    contents: list[str]
    contacts: int


def count_contacts(contacts: Iterable[ContactFacts], cycle: str) -> Counter[tuple[str, str]]:
    """Return the number of contacts by (stage, awareness level) of a cycle."""
    return Counter(
        (facts.standings[cycle].stage, awareness_level(facts, cycle))
        for facts in contacts
        if cycle in facts.standings
    )


def coverage_matrix(
    items: Sequence[ContentItem],
    stages: Sequence[str],
    channels: Sequence[str],
    counts: Mapping[tuple[str, str], int],
    cycle: str,
) -> list[CoverageCell]:
    """Return every cell: cells without content first, then by number of contacts."""
    cycle_items = [item for item in items if item.cycle == cycle]
    cells = [
        CoverageCell(
            stage,
            level,
            channel,
            sum(
                (not item.stages or stage in item.stages)
                and (not item.levels or level in item.levels)
                and (not item.channels or channel in item.channels)
                for item in cycle_items
            ),
            counts.get((stage, level), 0),
        )
        for stage in stages
        for level in AWARENESS_LEVELS
        for channel in channels
    ]
    return sorted(
        cells,
        key=lambda cell: (cell.contents > 0, -cell.contacts, cell.stage, cell.level, cell.channel),
    )


def question_coverage(
    items: Sequence[ContentItem],
    questions: Mapping[str, str],
    counts: Mapping[tuple[str, str], int],
    cycle: str,
) -> list[StageQuestion]:
    """Return the questions by stage: unanswered questions first, then by number of contacts."""
    coverage = []
    for stage, question in questions.items():
        answers = [
            item.content for item in items if item.cycle == cycle and question in item.questions
        ]
        contacts = sum(count for (at, _), count in counts.items() if at == stage)
        coverage.append(StageQuestion(stage, question, answers, contacts))
    return sorted(coverage, key=lambda row: (bool(row.contents), -row.contacts, row.stage))
