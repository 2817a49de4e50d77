"""What a cycle may say but hardly means. A lint is advice: it refuses nothing."""

from collections.abc import Iterator
from typing import Any

from services.scoring.domain.cycle_spec import AxisStageSpec, Condition, CycleSpec
from services.scoring.domain.stage_margin import iter_atoms


def lint_cycle(spec: CycleSpec) -> list[str]:
    """Return one line per doubtful place."""
    found = []
    for axis in spec.axes:
        for stage in axis.stages:
            found += [f"axes.{axis.name}.{stage.name}: {text}" for text in _stage(stage)]
    used = {
        atom.get("count", atom.get("seen", atom.get("silent")))
        for c in _conditions(spec)
        for atom in iter_atoms(c)
    }
    used.add(spec.repeat.signal if spec.repeat else None)
    for name, signal in spec.signals.items():
        if not signal.adds and not signal.publish and name not in used:
            found.append(
                f"signals.{name}: gives no points, is not published and no condition asks for it"
            )
    given = {added.score for signal in spec.signals.values() for added in signal.adds}
    found += [f"scores.{name}: no signal adds to it" for name in spec.scores if name not in given]
    cells = {cell for row in spec.map.values() for cell in row.values()}
    found += [
        f"stages.{stage.name}: the map never leads here"
        for stage in spec.stages
        if stage.name not in cells
    ]
    found += [f"stages.{stage.name}: has no owner" for stage in spec.stages if not stage.owner]
    return found


def _conditions(spec: CycleSpec) -> Iterator[Condition]:
    yield spec.dormant
    for axis in spec.axes:
        for stage in axis.stages:
            yield from (c for c in (stage.enter, stage.stay) if c is not None)


def _stage(stage: AxisStageSpec) -> Iterator[str]:
    """Yield where `stay` demands more than `enter`: such a stage is kept by `enter` alone."""
    if stage.enter is None or stage.stay is None:
        return
    entered = _thresholds(stage.enter)
    for name, threshold in _thresholds(stage.stay).items():
        if name in entered and threshold > entered[name]:
            yield f"`stay` asks for more {name[1]} ({threshold:g}) than `enter` does ({entered[name]:g})"


def _thresholds(condition: Condition) -> dict[tuple[str, Any], float]:
    found: dict[tuple[str, Any], float] = {}
    for atom in iter_atoms(condition):
        for kind in ("score", "count"):
            if kind in atom and "at_least" in atom:
                found[kind, atom[kind]] = float(atom["at_least"])
    return found
