"""Which content is right for a contact, on a channel, now: a pure choice with its reasons. Same input, same answer.

The awareness levels are those that the field calls Schwartz's. The gate holds back what comes too early: an offer to buy or try
before validation, proof by others until the contact is qualified.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from services.orchestrator.domain.contact_facts import ContactFacts

AwarenessLevel = Literal[
    "unaware", "problem_aware", "solution_aware", "product_aware", "most_aware"
]
AWARENESS_LEVELS: tuple[AwarenessLevel, ...] = get_args(AwarenessLevel)
_LEVEL_OF_PLACE: Mapping[str, AwarenessLevel] = {
    "awareness": "problem_aware",
    "investigation": "solution_aware",
    "validation": "product_aware",
    "purchase": "most_aware",
    "loyalty": "most_aware",
    "advocacy": "most_aware",
}
_GATE_OF_TYPE: Mapping[str, tuple[str, str]] = {
    "trial": ("buying", "validation"),
    "discount": ("buying", "validation"),
    "case_study": ("sales", "qualified"),
    "review": ("sales", "qualified"),
}
"""From which place on which axis each type may be offered."""


class ContentGate(BaseModel):
    """From which place on which axis an item may be offered."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    axis: str
    at_least: str
    cycle: str = "engagement"


class ContentItem(BaseModel):
    """A content of the catalogue; where a list is empty, everything fits."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    content: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,59}$")
    type: str = Field(pattern=r"^[a-z][a-z_]{0,39}$")
    title: str
    url: str = Field(pattern=r"^(https?://|/)\S+$")
    summary: str = ""
    cycle: str = "engagement"
    stages: list[str] = []
    levels: list[AwarenessLevel] = []
    questions: list[str] = []
    channels: list[str] = []
    language: str = ""
    gate: ContentGate | None = None
    personal: bool = False
    """Shown on a site only to somebody who has proven who they are."""
    priority: int = 0


class ContentChoice(msgspec.Struct, frozen=True):
    """What is offered, or None, and why: a reason for each item of the types that were asked for, and for the choice."""

    item: ContentItem | None
    reasons: Sequence[str]


def awareness_level(facts: ContactFacts, cycle: str = "engagement") -> AwarenessLevel:
    """Return the contact's awareness: what was declared of it, else what the place on the buying axis says."""
    declared = facts.traits.get("awareness_level")
    known = next((level for level in AWARENESS_LEVELS if level == declared), None)
    if known is not None:
        return known
    at = facts.standings.get(cycle)
    return _LEVEL_OF_PLACE.get(at.axes.get("buying", ""), "unaware") if at else "unaware"


def gate_reason(item: ContentItem, facts: ContactFacts) -> str:
    """Return why the right gate holds an item back from a contact, or nothing."""
    axis, place, cycle = "", "", item.cycle
    if item.gate is not None:
        axis, place, cycle = item.gate.axis, item.gate.at_least, item.gate.cycle
    elif item.type in _GATE_OF_TYPE:
        axis, place = _GATE_OF_TYPE[item.type]
    if not axis:
        return ""
    at = facts.standings.get(cycle)
    ladder = at.ladders.get(axis, ()) if at else ()
    reached = at.axes.get(axis) if at else None
    if reached in ladder and place in ladder and ladder.index(reached) >= ladder.index(place):
        return ""
    return f"too early: {item.type} from {place} on, the contact is at {reached or 'nothing'}"


def choose_content(
    items: Sequence[ContentItem],
    facts: ContactFacts,
    channel: str,
    types: Sequence[str] = (),
    fallback: str | None = None,
    *,
    override: bool = False,
) -> ContentChoice:
    """Choose for stage, level and channel what was not seen yet, by priority, then by name.

    An item whose levels do not fit is never chosen while one fits. `override` lets through what would come too early.
    """
    reasons: list[str] = []
    fitting: list[tuple[bool, int, str, ContentItem]] = []
    for item in sorted(items, key=lambda one: one.content):
        if types and item.type not in types:
            continue
        why = _unfit(item, facts, channel) or ("" if override else gate_reason(item, facts))
        if not why and item.content in facts.seen_content:
            why = "seen"
        if why:
            reasons.append(f"{item.content}: {why}")
            continue
        level = awareness_level(facts, item.cycle)
        mismatch = bool(item.levels) and level not in item.levels
        fitting.append((mismatch, -item.priority, item.content, item))
    best_of = min(fitting, key=lambda one: one[:3], default=None)
    if best_of is not None and not best_of[0]:
        best = best_of[3]
        return ContentChoice(best, [*reasons, f"{best.content}: fits, priority {best.priority}"])
    reasons += [f"{one[2]}: for other levels of awareness" for one in fitting]
    last = next((item for item in items if item.content == fallback), None)
    if last is not None and (override or not gate_reason(last, facts)):
        return ContentChoice(last, [*reasons, f"{last.content}: the fallback"])
    return ContentChoice(
        None,
        [
            *reasons,
            "nothing fits, and no fallback" if last is None else f"{fallback}: too early as well",
        ],
    )


def _unfit(item: ContentItem, facts: ContactFacts, channel: str) -> str:
    if item.channels and channel not in item.channels:
        return f"not for {channel}"
    at = facts.standings.get(item.cycle)
    if item.stages and (at is None or at.stage not in item.stages):
        return f"not for stage {at.stage if at else 'none'}"
    language = str(facts.traits.get("locale") or facts.traits.get("language") or "")[:2].lower()
    if item.language and language and item.language[:2].lower() != language:
        return f"in {item.language}"
    return ""
