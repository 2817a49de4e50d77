"""A segment: a named, live condition. One that is watched tells when a contact comes into it, and when it leaves it.

Coming and leaving are signals like any other (`entered:NAME`, `left:NAME`): they start plays, end them, and count in conditions.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from libs.common import ids
from libs.common.durations import Duration
from services.orchestrator.domain.condition import ASKED_FOR, Condition, Test, compiled, kinds_in, segments_in
from services.orchestrator.domain.play import Play
from services.orchestrator.domain.program import signals_of


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


class Watched(msgspec.Struct, frozen=True):
    """A segment whose coming and going is told."""

    name: str
    test: Test
    mark: str
    """Another one means another condition: who is in it then has not come into it."""
    costly: bool
    """Whether it asks for what is gathered only then: contacts come into it when everybody is looked at, and leave it at once."""
    within: int | None = None


def entered(name: str) -> str:
    """Return the signal of coming into a segment."""
    return f"entered:{name}"


def left(name: str) -> str:
    """Return the signal of leaving a segment."""
    return f"left:{name}"


def named_in(play: Play) -> set[str]:
    """Return the segments whose coming or going a play waits for."""
    found = {play.trigger.segment} if play.trigger.segment else set()
    for signal in signals_of(play):
        kind, colon, name = signal.partition(":")
        if colon and f"{kind}:" in (entered(""), left("")):
            found.add(name)
    return found


def watched(segment: Segment, others: Mapping[str, Condition]) -> Watched:
    """Return a segment, ready to be asked. Raises ValueError for a condition that is wrong."""
    asked = {"segment": segment.segment}
    mark = ids.derive_id("segment", msgspec.json.encode(_resolved(asked, others), order="deterministic").decode())
    return Watched(segment.segment, compiled(asked, others), mark, is_costly(asked, others), segment.within)


def is_costly(raw: Any, others: Mapping[str, Condition]) -> bool:
    """Return whether conditions, or the segments that they name, ask for what is gathered only then."""
    return bool(kinds_in([raw, *_resolved(raw, others).values()]) & ASKED_FOR)


def _resolved(raw: Any, others: Mapping[str, Condition]) -> dict[str, Condition]:
    """Return the segments that conditions name, themselves or by others."""
    found: dict[str, Condition] = {}
    open_names = [*segments_in(raw)]
    while open_names:
        one = open_names.pop()
        if one not in found and one in others:
            found[one] = others[one]
            open_names += segments_in(others[one])
    return found
