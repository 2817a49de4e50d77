"""A segment: a named, live condition. One that is watched tells when a contact comes into it, and when it leaves it.

Coming and leaving are signals like any other (`entered:NAME`, `left:NAME`): they start plays, end them, and count in conditions.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from libs.common import ids
from libs.common.durations import Duration
from services.orchestrator.domain.condition import (
    COSTLY_KINDS,
    Condition,
    ConditionTest,
    compile_condition,
    condition_kinds,
    referenced_segments,
)
from services.orchestrator.domain.play import Play
from services.orchestrator.domain.play_program import signals_of_play


class Segment(BaseModel):
    """Who belongs to it: those for whom the condition holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    segment: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,59}$")
    description: str = ""
    when: Condition
    publish: bool = False
    """Whether coming and leaving are told. They are anyway where a live play starts by it."""
    within: Duration | None = None
    """How soon somebody is to take care of who comes into it: the clock beside each member."""


class WatchedSegment(msgspec.Struct, frozen=True):
    """A segment whose coming and going is told."""

    name: str
    test: ConditionTest
    mark: str
    """Another one means another condition: who is in it then has not come into it."""
    costly: bool
    """Whether it asks for what is gathered only then: contacts come into it when everybody is looked at, and leave it at once."""
    within: int | None = None


def entry_signal(name: str) -> str:
    """Return the signal of coming into a segment."""
    return f"entered:{name}"


def exit_signal(name: str) -> str:
    """Return the signal of leaving a segment."""
    return f"left:{name}"


def awaited_segments(play: Play) -> set[str]:
    """Return the segments whose coming or going a play waits for."""
    found = {play.trigger.segment} if play.trigger.segment else set()
    for signal in signals_of_play(play):
        kind, colon, name = signal.partition(":")
        if colon and f"{kind}:" in (entry_signal(""), exit_signal("")):
            found.add(name)
    return found


def watch_segment(segment: Segment, others: Mapping[str, Condition]) -> WatchedSegment:
    """Return a segment, ready to be asked. Raises ValueError for a condition that is wrong."""
    asked = {"segment": segment.segment}
    mark = ids.derive_id(
        "segment", msgspec.json.encode(_resolved(asked, others), order="deterministic").decode()
    )
    return WatchedSegment(
        segment.segment,
        compile_condition(asked, others),
        mark,
        is_costly(asked, others),
        segment.within,
    )


def is_costly(raw: Any, others: Mapping[str, Condition]) -> bool:
    """Return whether conditions, or the segments that they name, ask for what is gathered only then."""
    return bool(condition_kinds([raw, *_resolved(raw, others).values()]) & COSTLY_KINDS)


def _resolved(raw: Any, others: Mapping[str, Condition]) -> dict[str, Condition]:
    """Return the segments that conditions name, themselves or by others."""
    found: dict[str, Condition] = {}
    open_names = [*referenced_segments(raw)]
    while open_names:
        one = open_names.pop()
        if one not in found and one in others:
            found[one] = others[one]
            open_names += referenced_segments(others[one])
    return found
