"""A segment: a named condition. A watched segment publishes entries and exits of contacts.

Entry and exit are signals (`entered:NAME`, `left:NAME`): they start plays, end them, and count in
conditions.
"""

from collections.abc import Iterable, Mapping

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from libs.common import ids
from libs.common.conditions import (
    Condition,
    SegmentCondition,
    condition_kinds,
    referenced_segments,
)
from libs.common.durations import Duration
from services.orchestrator.domain.condition_evaluator import (
    COSTLY_KINDS,
    ConditionTest,
    compile_condition,
)
from services.orchestrator.domain.play import Play
from services.orchestrator.domain.play_program import signals_of_play


class Segment(BaseModel):
    """A named condition; the contacts for which it holds are its members."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    segment: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,59}$")
    description: str = ""
    when: Condition
    publish: bool = False
    """Whether entries and exits are published. They always are when a live play starts by it."""
    within: Duration | None = None
    """The time in which a new member is to be attended to, in microseconds."""


class WatchedSegment(msgspec.Struct, frozen=True):
    """A segment whose entries and exits are published."""

    name: str
    test: ConditionTest
    mark: str
    """A digest of the condition. Members that a changed condition brings have not entered."""
    costly: bool
    """Whether the condition needs facts of a sweep: entries wait for it, exits are immediate."""
    within: int | None = None


def entry_signal(name: str) -> str:
    """Return the signal of an entry into a segment."""
    return f"entered:{name}"


def exit_signal(name: str) -> str:
    """Return the signal of an exit from a segment."""
    return f"left:{name}"


def awaited_segments(play: Play) -> set[str]:
    """Return the segments whose entry or exit a play waits for."""
    segments = {play.trigger.segment} if play.trigger.segment else set()
    for signal in signals_of_play(play):
        kind, colon, name = signal.partition(":")
        if colon and f"{kind}:" in (entry_signal(""), exit_signal("")):
            segments.add(name)
    return segments


def watch_segment(segment: Segment, others: Mapping[str, Condition]) -> WatchedSegment:
    """Return a segment with its compiled test. Raises ValueError for a wrong condition."""
    membership = SegmentCondition(segment=segment.segment)
    definitions = {
        name: condition.written for name, condition in _resolve([membership], others).items()
    }
    mark = ids.derive_id(
        "segment", msgspec.json.encode(definitions, order="deterministic").decode()
    )
    return WatchedSegment(
        segment.segment,
        compile_condition(membership, others),
        mark,
        is_costly([membership], others),
        segment.within,
    )


def is_costly(conditions: Iterable[Condition], others: Mapping[str, Condition]) -> bool:
    """Return whether conditions, or the segments that they name, have a costly kind."""
    conditions = list(conditions)
    kinds = condition_kinds([*conditions, *_resolve(conditions, others).values()])
    return bool(kinds & COSTLY_KINDS)


def _resolve(
    conditions: Iterable[Condition], others: Mapping[str, Condition]
) -> dict[str, Condition]:
    """Return the segments that conditions name, directly or through other segments."""
    resolved: dict[str, Condition] = {}
    open_names = [name for condition in conditions for name in referenced_segments(condition)]
    while open_names:
        name = open_names.pop()
        if name not in resolved and name in others:
            resolved[name] = others[name]
            open_names += referenced_segments(others[name])
    return resolved
