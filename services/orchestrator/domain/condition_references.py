"""Whether the names in a condition exist: cycles, stages, axes, scores, signals, segments."""

from collections.abc import Iterator, Mapping

from libs.common.conditions import (
    AxisCondition,
    Condition,
    ConditionModel,
    CountCondition,
    DormantCondition,
    Place,
    ScoreCondition,
    SeenCondition,
    SegmentCondition,
    SilentCondition,
    StageCondition,
    iter_nodes,
)
from libs.common.conditions.models import kind_of
from services.orchestrator.domain.condition_evaluator import get_segment
from services.orchestrator.domain.cycle_vocabulary import CycleVocabularies


def reference_faults(
    condition: Condition,
    segments: Mapping[str, Condition],
    vocabulary: CycleVocabularies,
    place: Place = (),
) -> Iterator[tuple[Place, str]]:
    """Yield (place, reason) of every name in a condition that refers to nothing.

    A fault inside a segment's own condition is reported at the place that names the segment.
    """
    for node_place, node in iter_nodes(condition, place):
        try:
            _check_names(node, segments, vocabulary, ())
        except ValueError as error:
            yield (*node_place, kind_of(node) or ""), str(error)


def check_references(
    condition: Condition, segments: Mapping[str, Condition], vocabulary: CycleVocabularies
) -> None:
    """Raise ValueError for the first name in a condition that refers to nothing."""
    for _, reason in reference_faults(condition, segments, vocabulary):
        raise ValueError(reason)


def _check_names(
    node: ConditionModel,
    segments: Mapping[str, Condition],
    vocabulary: CycleVocabularies,
    enclosing: tuple[str, ...],
) -> None:
    match node:
        case StageCondition():
            vocabulary.check_stages(node.cycle, sorted(node.stages))
        case AxisCondition():
            vocabulary.check_axis_place(node.cycle, node.axis, node.stage)
        case ScoreCondition():
            vocabulary.check_score(node.cycle, node.score)
        case DormantCondition():
            vocabulary.get_cycle(node.cycle)
        case CountCondition():
            vocabulary.check_signal(node.count)
        case SeenCondition() if node.seen != "any":
            vocabulary.check_signal(node.seen)
        case SilentCondition() if node.silent != "any":
            vocabulary.check_signal(node.silent)
        case SegmentCondition():
            inner = get_segment(node.segment, segments, enclosing)
            for _, part in iter_nodes(inner):
                _check_names(part, segments, vocabulary, (*enclosing, node.segment))
