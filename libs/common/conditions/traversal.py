"""Traversal of conditions: every node with its place, and the names that conditions refer to."""

from collections.abc import Iterable, Iterator

from libs.common.conditions.base import ConditionModel
from libs.common.conditions.models import (
    AllCondition,
    AnyCondition,
    Condition,
    CountCondition,
    NotCondition,
    SeenCondition,
    SegmentCondition,
    SilentCondition,
    kind_of,
)

Place = tuple[str | int, ...]
"""Keys and indexes that lead from a document's root to a value."""


def iter_nodes(condition: Condition, place: Place = ()) -> Iterator[tuple[Place, ConditionModel]]:
    """Yield a condition and every condition inside it, outer before inner, each with its place."""
    yield place, condition
    if isinstance(condition, AllCondition):
        for number, part in enumerate(condition.all):
            yield from iter_nodes(part, (*place, "all", number))
    elif isinstance(condition, AnyCondition):
        for number, part in enumerate(condition.any):
            yield from iter_nodes(part, (*place, "any", number))
    elif isinstance(condition, NotCondition):
        yield from iter_nodes(condition.not_, (*place, "not"))


def iter_atoms(condition: Condition) -> Iterator[ConditionModel]:
    """Yield the conditions without inner conditions."""
    for _, node in iter_nodes(condition):
        if not isinstance(node, AllCondition | AnyCondition | NotCondition):
            yield node


def condition_kinds(conditions: Iterable[Condition]) -> set[str]:
    """Return the kinds that occur in conditions."""
    return {
        kind
        for condition in conditions
        for _, node in iter_nodes(condition)
        if (kind := kind_of(node)) is not None
    }


def referenced_segments(condition: Condition) -> set[str]:
    """Return the segments that a condition names."""
    return {node.segment for node in iter_atoms(condition) if isinstance(node, SegmentCondition)}


def referenced_signals(condition: Condition) -> set[str]:
    """Return the signals that a condition names; `any` is included if the condition has it."""
    signals = set()
    for node in iter_atoms(condition):
        if isinstance(node, CountCondition):
            signals.add(node.count)
        elif isinstance(node, SeenCondition):
            signals.add(node.seen)
        elif isinstance(node, SilentCondition):
            signals.add(node.silent)
    return signals
