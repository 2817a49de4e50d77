"""Content choice: the item for a contact's stage, awareness level and channel, with reasons. Pure.

The awareness levels are those of Eugene Schwartz. The content gate withholds an item that comes too
early: trials and discounts before validation, case studies and reviews before qualification.
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
_LEVEL_OF_STAGE: Mapping[str, AwarenessLevel] = {
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
"""{type: (axis, first stage at which it may be offered)}"""


class ContentGate(BaseModel):
    """The stage of an axis from which on an item may be offered."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    axis: str
    at_least: str
    cycle: str = "engagement"


class ContentItem(BaseModel):
    """A content item; an empty list matches everything."""

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
    """Shown on a site only to a verified visitor."""
    priority: int = 0


class ContentChoice(msgspec.Struct, frozen=True):
    """The chosen item or None; reasons for each item of the requested types and for the choice."""

    item: ContentItem | None
    reasons: Sequence[str]


def awareness_level(facts: ContactFacts, cycle: str = "engagement") -> AwarenessLevel:
    """Return the contact's declared awareness level, or that of its stage on the buying axis."""
    trait = facts.traits.get("awareness_level")
    declared = next((level for level in AWARENESS_LEVELS if level == trait), None)
    if declared is not None:
        return declared
    at = facts.standings.get(cycle)
    return _LEVEL_OF_STAGE.get(at.axes.get("buying", ""), "unaware") if at else "unaware"


def gate_reason(item: ContentItem, facts: ContactFacts) -> str:
    """Return the reason why the content gate withholds an item, or an empty string."""
    axis, first_stage, cycle = "", "", item.cycle
    if item.gate is not None:
        axis, first_stage, cycle = item.gate.axis, item.gate.at_least, item.gate.cycle
    elif item.type in _GATE_OF_TYPE:
        axis, first_stage = _GATE_OF_TYPE[item.type]
    if not axis:
        return ""
    at = facts.standings.get(cycle)
    ladder = at.ladders.get(axis, ()) if at else ()
    reached = at.axes.get(axis) if at else None
    on_ladder = reached in ladder and first_stage in ladder
    if on_ladder and ladder.index(reached) >= ladder.index(first_stage):
        return ""
    return (
        f"too early: {item.type} from {first_stage} on, the contact is at {reached or 'no stage'}"
    )


def choose_content(
    items: Sequence[ContentItem],
    facts: ContactFacts,
    channel: str,
    types: Sequence[str] = (),
    fallback: str | None = None,
    *,
    override: bool = False,
) -> ContentChoice:
    """Choose an unseen item for the contact's stage, level and channel, by priority, then by name.

    If no item fits the awareness level, the fallback is chosen. `override` skips the content gate.
    """
    reasons: list[str] = []
    fitting: list[tuple[bool, int, str, ContentItem]] = []
    for item in sorted(items, key=lambda item: item.content):
        if types and item.type not in types:
            continue
        reason = _mismatch(item, facts, channel) or ("" if override else gate_reason(item, facts))
        if not reason and item.content in facts.seen_content:
            reason = "seen"
        if reason:
            reasons.append(f"{item.content}: {reason}")
            continue
        level = awareness_level(facts, item.cycle)
        other_level = bool(item.levels) and level not in item.levels
        fitting.append((other_level, -item.priority, item.content, item))
    first = min(fitting, key=lambda candidate: candidate[:3], default=None)
    if first is not None and not first[0]:
        best = first[3]
        return ContentChoice(best, [*reasons, f"{best.content}: fits, priority {best.priority}"])
    reasons += [f"{name}: for other levels of awareness" for _, _, name, _ in fitting]
    fallback_item = next((item for item in items if item.content == fallback), None)
    if fallback_item is not None and (override or not gate_reason(fallback_item, facts)):
        return ContentChoice(fallback_item, [*reasons, f"{fallback_item.content}: the fallback"])
    return ContentChoice(
        None,
        [
            *reasons,
            "no content fits, and there is no fallback"
            if fallback_item is None
            else f"{fallback}: too early as well",
        ],
    )


def _mismatch(item: ContentItem, facts: ContactFacts, channel: str) -> str:
    """Return the reason why an item does not fit channel, stage or language, or an empty string."""
    if item.channels and channel not in item.channels:
        return f"not for {channel}"
    at = facts.standings.get(item.cycle)
    if item.stages and (at is None or at.stage not in item.stages):
        return f"not for stage {at.stage if at else 'none'}"
    language = str(facts.traits.get("locale") or facts.traits.get("language") or "")[:2].lower()
    if item.language and language and item.language[:2].lower() != language:
        return f"in {item.language}"
    return ""
