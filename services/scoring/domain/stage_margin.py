"""Conditions read at an instant: each atom's value, whether it holds, and a stage's margin.

The margin of an atom `value at least threshold` that keeps a stage is
(value - stay) / (enter - stay), between the threshold that keeps the stage and the one that it was
entered by, clipped to 0..1: 1 is as good as newly entered, 0 is about to fall. `all` has its
smallest margin, `any` its largest. An atom without two thresholds has margin 1 while it holds.
"""

from typing import Any

from libs.common.conditions import (
    AllCondition,
    AnyCondition,
    AxisCondition,
    Condition,
    ConditionModel,
    CountCondition,
    NotCondition,
    ScoreCondition,
    SeenCondition,
    SilentCondition,
    TraitCondition,
    iter_atoms,
)
from services.scoring.domain.compiled_cycle import CompiledCycle
from services.scoring.domain.fold_state import FoldState

ConditionReading = dict[str, Any]
"""A condition as written, with `holds`, and with `value` or its parts' readings: an API answer."""


class ConditionReader:
    """Reads conditions against a state at an instant (µs UTC)."""

    def __init__(self, compiled: CompiledCycle, state: FoldState, t: int) -> None:
        self._compiled = compiled
        self._state = state
        self._t = t
        self._values = compiled.score_values_at(state, t)
        self._numbers = {name: number for number, name in enumerate(compiled.spec.signals)}

    def read(self, condition: Condition) -> ConditionReading:
        """Return the condition's reading."""
        match condition:
            case AllCondition():
                parts = [self.read(part) for part in condition.all]
                return {"all": parts, "holds": all(part["holds"] for part in parts)}
            case AnyCondition():
                parts = [self.read(part) for part in condition.any]
                return {"any": parts, "holds": any(part["holds"] for part in parts)}
            case NotCondition():
                inner = self.read(condition.not_)
                return {"not": inner, "holds": not inner["holds"]}
            case _:
                value, holds = self._atom(condition)
                return {**condition.written, "value": value, "holds": holds}

    def _atom(self, atom: ConditionModel) -> tuple[Any, bool]:
        match atom:
            case ScoreCondition():
                value = self._values[self._compiled.score_names.index(atom.score)]
                reached = value >= atom.threshold
                return value, reached is (atom.at_least is not None)
            case CountCondition():
                count = self._count(atom)
                return count, count >= atom.at_least
            case SeenCondition():
                return self._last_seen(atom.seen, atom.within)
            case SilentCondition():
                last, is_seen = self._last_seen(atom.silent, atom.for_)
                return last, not is_seen
            case TraitCondition():
                trait = self._state.traits[self._compiled.trait_names.index(atom.trait)]
                return trait, trait == str(atom.equals)
            case AxisCondition():
                return self._axis(atom)
        raise ValueError(f"{type(atom).__name__} is no condition of a cycle")

    def _count(self, atom: CountCondition) -> int:
        rule = self._compiled.signals[self._numbers[atom.count]]
        begin = None if atom.within is None else self._t - atom.within
        return sum(1 for at in self._state.rings[rule.ring] if begin is None or begin < at)

    def _last_seen(self, signal: str, window: int | None) -> tuple[int | None, bool]:
        """Return the last instant (µs UTC) of a signal, and whether it lies within the window."""
        slot = 0 if signal == "any" else self._compiled.signals[self._numbers[signal]].seen
        last = self._state.seen[slot]
        if last < 0:
            return None, False
        return last, window is None or self._t - last < window

    def _axis(self, atom: AxisCondition) -> tuple[str, bool]:
        axis = next(axis for axis in self._compiled.axes if axis.name == atom.axis)
        stages = [rule.name for rule in axis.places]
        position = self._state.places[axis.number]
        reached = position >= stages.index(atom.stage)
        return stages[position], reached is (atom.at_least is not None)


def stage_margin(reading: ConditionReading, enter: Condition) -> float:
    """Return the margin by which a read condition holds; `enter` has the thresholds of entering."""
    if not reading["holds"]:
        return 0.0
    if "all" in reading:
        return min((stage_margin(part, enter) for part in reading["all"]), default=1.0)
    if "any" in reading:
        return max(stage_margin(part, enter) for part in reading["any"])
    for kind in ("score", "count"):
        if kind in reading and "at_least" in reading:
            entered_at = _enter_threshold(enter, kind, reading[kind])
            return _between(float(reading["value"]), float(reading["at_least"]), entered_at)
    return 1.0


def _enter_threshold(enter: Condition, kind: str, name: str) -> float | None:
    thresholds = [threshold for (key, threshold) in lower_thresholds(enter) if key == (kind, name)]
    return max(thresholds, default=None)


def lower_thresholds(condition: Condition) -> list[tuple[tuple[str, str], float]]:
    """Return ((kind, name), threshold) of every score and count that has to be at least so much."""
    thresholds: list[tuple[tuple[str, str], float]] = []
    for atom in iter_atoms(condition):
        if isinstance(atom, ScoreCondition) and atom.at_least is not None:
            thresholds.append((("score", atom.score), atom.at_least))
        elif isinstance(atom, CountCondition):
            thresholds.append((("count", atom.count), float(atom.at_least)))
    return thresholds


def _between(value: float, stay: float, enter: float | None) -> float:
    if enter is None or enter <= stay:
        return 1.0
    return min(1.0, max(0.0, (value - stay) / (enter - stay)))


def missing_atoms(reading: ConditionReading) -> list[ConditionReading]:
    """Return the atoms that must change for a condition to hold; of `any`, its nearest part's."""
    if reading["holds"]:
        return []
    if "all" in reading:
        return [atom for part in reading["all"] for atom in missing_atoms(part)]
    if "any" in reading:
        return min((missing_atoms(part) for part in reading["any"]), key=len, default=[])
    return [reading]
