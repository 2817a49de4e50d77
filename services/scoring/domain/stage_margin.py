"""Conditions read out: what each atom is worth now, whether it holds, and how far a stage is from being lost.

The margin of an atom `value at least threshold` that holds a stage is (value - stay) / (enter - stay), between the
threshold that keeps the stage and the one that it was entered by, clipped to 0..1: 1 is as good as newly entered, 0 is
about to fall. `all` has its smallest margin, `any` its largest. An atom without two thresholds has 1 while it holds.
"""

from collections.abc import Iterator
from typing import Any

from libs.common.durations import parse_duration
from services.scoring.domain.compiled_cycle import CompiledCycle
from services.scoring.domain.cycle_spec import Condition
from services.scoring.domain.fold_state import FoldState

ConditionReading = dict[str, Any]
"""A condition with `holds`, and `value` or parts."""


class ConditionReader:
    """Reads conditions against a state at an instant."""

    def __init__(self, engine: CompiledCycle, state: FoldState, t: int) -> None:
        self._engine = engine
        self._state = state
        self._t = t
        self._values = engine.score_values_at(state, t)
        self._numbers = {name: number for number, name in enumerate(engine.spec.signals)}

    def read(self, raw: Condition) -> ConditionReading:
        """Return the condition with what it is worth."""
        for kind in ("all", "any"):
            if kind in raw:
                parts = [self.read(part) for part in raw[kind]]
                holds = [part["holds"] for part in parts]
                return {kind: parts, "holds": all(holds) if kind == "all" else any(holds)}
        if "not" in raw:
            inner = self.read(raw["not"])
            return {"not": inner, "holds": not inner["holds"]}
        return self._atom(raw)

    def _atom(self, raw: Condition) -> ConditionReading:
        if "score" in raw:
            value = self._values[self._engine.score_names.index(raw["score"])]
            holds = value >= raw["at_least"] if "at_least" in raw else not value >= raw["below"]
            return {**raw, "value": value, "holds": holds}
        if "count" in raw:
            count = self._count(raw)
            return {**raw, "value": count, "holds": count >= raw["at_least"]}
        if "seen" in raw or "silent" in raw:
            return self._seen(raw)
        if "trait" in raw:
            trait = self._state.traits[self._engine.trait_names.index(raw["trait"])]
            return {**raw, "value": trait, "holds": trait == str(raw["equals"])}
        axis = next(axis for axis in self._engine.axes if axis.name == raw["axis"])
        names = [place.name for place in axis.places]
        place = self._state.places[axis.number]
        return {**raw, "value": names[place], "holds": place >= names.index(raw["at_least"])}

    def _count(self, raw: Condition) -> int:
        rule = self._engine.signals[self._numbers[raw["count"]]]
        window = parse_duration(raw["within"]) if raw.get("within") is not None else None
        times = self._state.rings[rule.ring]
        return sum(1 for at in times if window is None or self._t - window < at)

    def _seen(self, raw: Condition) -> ConditionReading:
        name = raw.get("seen", raw.get("silent"))
        slot = 0 if name == "any" else self._engine.signals[self._numbers[str(name)]].seen
        last = self._state.seen[slot]
        limit = raw.get("within") if "seen" in raw else raw["for"]
        within = last >= 0 and (limit is None or self._t - last < parse_duration(limit))
        return {
            **raw,
            "value": last if last >= 0 else None,
            "holds": within if "seen" in raw else not within,
        }


def iter_atoms(raw: Condition) -> Iterator[Condition]:
    """Yield the atoms of a condition."""
    for kind in ("all", "any"):
        for part in raw.get(kind, ()):
            yield from iter_atoms(part)
    if "not" in raw:
        yield from iter_atoms(raw["not"])
    elif not {"all", "any"} & raw.keys():
        yield raw


def stage_margin(reading: ConditionReading, enter: Condition) -> float:
    """Return the margin by which a condition that was read holds; `enter` tells the thresholds of entering."""
    if not reading["holds"]:
        return 0.0
    if "all" in reading:
        return min((stage_margin(part, enter) for part in reading["all"]), default=1.0)
    if "any" in reading:
        return max(stage_margin(part, enter) for part in reading["any"])
    for kind in ("score", "count"):
        if kind in reading and "at_least" in reading:
            return _between(
                float(reading["value"]),
                float(reading["at_least"]),
                _entered_at(enter, kind, reading[kind]),
            )
    return 1.0


def _entered_at(enter: Condition, kind: str, name: str) -> float | None:
    found = [
        float(atom["at_least"])
        for atom in iter_atoms(enter)
        if atom.get(kind) == name and "at_least" in atom
    ]
    return max(found, default=None)


def _between(value: float, stay: float, enter: float | None) -> float:
    if enter is None or enter <= stay:
        return 1.0
    return min(1.0, max(0.0, (value - stay) / (enter - stay)))


def missing_atoms(reading: ConditionReading) -> list[ConditionReading]:
    """Return the atoms that would have to change for a condition to hold; of an `any`, those of its nearest part."""
    if reading["holds"]:
        return []
    if "all" in reading:
        return [atom for part in reading["all"] for atom in missing_atoms(part)]
    if "any" in reading:
        return min((missing_atoms(part) for part in reading["any"]), key=len, default=[])
    return [reading]
