"""Where the catalogue has nothing to say: cells of stage, level and channel without content, questions without an answer."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from services.orchestrator.domain.contact_facts import ContactFacts
from services.orchestrator.domain.content import AWARENESS_LEVELS, ContentItem, awareness_level


class CoverageCell(msgspec.Struct, frozen=True):
    """A cell of the matrix: how many contents fit it, and how many contacts stand in it."""

    stage: str
    level: str
    channel: str
    contents: int
    contacts: int


class StageQuestion(msgspec.Struct, frozen=True):
    """What somebody in a stage asks, and which contents answer it."""

    stage: str
    question: str
    contents: list[str]
    contacts: int


def count_contacts(people: Iterable[ContactFacts], cycle: str) -> Counter[tuple[str, str]]:
    """Return how many contacts stand in each (stage, level) of a cycle."""
    return Counter(
        (facts.standings[cycle].stage, awareness_level(facts, cycle))
        for facts in people
        if cycle in facts.standings
    )


def coverage_matrix(
    items: Sequence[ContentItem],
    stages: Sequence[str],
    channels: Sequence[str],
    counts: Mapping[tuple[str, str], int],
    cycle: str,
) -> list[CoverageCell]:
    """Return every cell, the empty ones in which most contacts are stuck first."""
    mine = [item for item in items if item.cycle == cycle]
    cells = [
        CoverageCell(
            stage,
            level,
            channel,
            sum(
                (not item.stages or stage in item.stages)
                and (not item.levels or level in item.levels)
                and (not item.channels or channel in item.channels)
                for item in mine
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
    asked: Mapping[str, str],
    counts: Mapping[tuple[str, str], int],
    cycle: str,
) -> list[StageQuestion]:
    """Return each stage's question with what answers it, those without an answer that most contacts ask first."""
    found = []
    for stage, question in asked.items():
        answers = [
            item.content for item in items if item.cycle == cycle and question in item.questions
        ]
        contacts = sum(count for (place, _), count in counts.items() if place == stage)
        found.append(StageQuestion(stage, question, answers, contacts))
    return sorted(found, key=lambda one: (bool(one.contents), -one.contacts, one.stage))
