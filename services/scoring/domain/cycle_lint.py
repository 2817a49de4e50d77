"""Advice on a cycle: valid statements without an effect or with a doubtful one."""

from collections.abc import Iterator

from libs.common.conditions import Condition, referenced_signals
from services.scoring.domain.cycle_spec import AxisStageSpec, CycleSpec
from services.scoring.domain.stage_margin import lower_thresholds


def lint_cycle(spec: CycleSpec) -> list[str]:
    """Return one line per doubtful place; none refuses the cycle."""
    return [*_stay_hints(spec), *_signal_hints(spec), *_score_hints(spec), *_stage_hints(spec)]


def _stay_hints(spec: CycleSpec) -> Iterator[str]:
    for axis in spec.axes:
        for stage in axis.stages:
            for text in _stricter_stays(stage):
                yield f"axes.{axis.name}.{stage.name}: {text}"


def _signal_hints(spec: CycleSpec) -> Iterator[str]:
    used = {name for condition in _conditions(spec) for name in referenced_signals(condition)}
    if spec.repeat:
        used.add(spec.repeat.signal)
    for name, signal in spec.signals.items():
        if not signal.adds and not signal.publish and name not in used:
            yield f"signals.{name}: gives no points, is not published and no condition asks for it"


def _score_hints(spec: CycleSpec) -> Iterator[str]:
    fed = {added.score for signal in spec.signals.values() for added in signal.adds}
    for name in spec.scores:
        if name not in fed:
            yield f"scores.{name}: no signal adds to it"


def _stage_hints(spec: CycleSpec) -> Iterator[str]:
    reachable = {cell for row in spec.map.values() for cell in row.values()}
    for stage in spec.stages:
        if stage.name not in reachable:
            yield f"stages.{stage.name}: the map never leads here"
    for stage in spec.stages:
        if not stage.owner:
            yield f"stages.{stage.name}: has no owner"


def _conditions(spec: CycleSpec) -> Iterator[Condition]:
    yield spec.dormant
    for axis in spec.axes:
        for stage in axis.stages:
            yield from (c for c in (stage.enter, stage.stay) if c is not None)


def _stricter_stays(stage: AxisStageSpec) -> Iterator[str]:
    """Yield each `stay` threshold above that of `enter`: such a stage is kept by `enter` alone."""
    if stage.enter is None or stage.stay is None:
        return
    enter = dict(lower_thresholds(stage.enter))
    for key, threshold in dict(lower_thresholds(stage.stay)).items():
        if key in enter and threshold > enter[key]:
            yield (
                f"`stay` asks for more {key[1]} ({threshold:g}) than `enter` does ({enter[key]:g})"
            )
