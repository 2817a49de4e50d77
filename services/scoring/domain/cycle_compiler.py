"""From a cycle's specification to an engine; every wrong reference is an error that names its place."""

from typing import Any

from libs.common.durations import parse_duration
from libs.common.errors import ConfigurationError
from services.scoring.domain import condition_nodes
from services.scoring.domain.compiled_cycle import (
    AxisRule,
    CompiledCycle,
    ScoreContribution,
    SignalRule,
    StageRule,
)
from services.scoring.domain.cycle_spec import AxisStageSpec, Condition, CycleSpec
from services.scoring.domain.decay import FOREVER, MAX_HALF_LIFE


def compile_cycle(spec: CycleSpec) -> CompiledCycle:
    """Return the engine of a cycle. Raises ConfigurationError naming the place that cannot be compiled."""
    return _Compiler(spec).compile()


class _Compiler:
    def __init__(self, spec: CycleSpec) -> None:
        self.spec = spec
        self.engine = CompiledCycle(spec)
        self.signal_numbers = {name: number for number, name in enumerate(spec.signals)}
        self.score_atoms: dict[tuple[int, float], condition_nodes.ScoreAtLeast] = {}

    def compile(self) -> CompiledCycle:
        engine, spec = self.engine, self.spec
        for name, score in spec.scores.items():
            if score.half_life > MAX_HALF_LIFE:
                raise self._fault(
                    f"scores.{name}.half_life", "at most 3653d (decay is exact up to there)"
                )
        self._signals()
        for number, axis in enumerate(spec.axes):
            places = [
                self._place(f"axes.{axis.name}", i, stage, number)
                for i, stage in enumerate(axis.stages)
            ]
            engine.axes.append(AxisRule(number, axis.name, places))
        engine.dormant = self._node(spec.dormant, "dormant", len(spec.axes))
        engine.cells = [
            [spec.map[sales.name][buying.name] for buying in spec.axes[engine.buying].stages]
            for sales in spec.axes[engine.sales].stages
        ]
        if spec.repeat is not None:
            engine.repeat_signal = self._signal(spec.repeat.signal, "repeat.signal")
            if spec.repeat.from_stage not in engine.ring_of:
                raise self._fault("repeat.from_stage", f"no stage {spec.repeat.from_stage!r}")
            engine.repeat_ring = engine.ring_of[spec.repeat.from_stage]
        return engine

    def _fault(self, where: str, what: str) -> ConfigurationError:
        return ConfigurationError(f"cycle {self.spec.cycle}: {where}: {what}")

    def _signals(self) -> None:
        for name, signal in self.spec.signals.items():
            rule = SignalRule(name, signal.publish)
            for added in signal.adds:
                score = self._score(added.score, f"signals.{name}.adds")
                slot = -1
                if added.cap is not None:
                    slot, self.engine.caps = self.engine.caps, self.engine.caps + 1
                rule.contributions.append(
                    ScoreContribution(score, added.points, added.cap or 0.0, slot)
                )
            self.engine.signals.append(rule)

    def _score(self, name: Any, where: str) -> int:
        if name not in self.engine.score_names:
            raise self._fault(
                where, f"no score {name!r}; there are {', '.join(self.engine.score_names)}"
            )
        return self.engine.score_names.index(name)

    def _signal(self, name: Any, where: str) -> int:
        if name not in self.signal_numbers:
            raise self._fault(
                where, f"no signal {name!r}; there are {', '.join(self.signal_numbers)}"
            )
        return self.signal_numbers[name]

    def _place(self, where: str, index: int, stage: AxisStageSpec, axis: int) -> StageRule:
        where = f"{where}.{stage.name}"
        if index == 0:
            if stage.enter or stage.stay or stage.dwell:
                raise self._fault(where, "the first stage is the floor: it has no condition")
            return StageRule(stage.name, None, None, 0)
        if stage.enter is None:
            raise self._fault(where, "needs an `enter` condition")
        enter = self._node(stage.enter, f"{where}.enter", axis)
        stay = self._node(stage.stay, f"{where}.stay", axis) if stage.stay else None
        return StageRule(stage.name, enter, stay, stage.dwell or 0)

    def _node(self, raw: Condition, where: str, axis: int) -> condition_nodes.ConditionNode:
        """Compile one condition; `axis` is the number of the axis it belongs to, which it may only look before."""
        kinds = [k for k in _KINDS if k in raw]
        if len(kinds) != 1:
            raise self._fault(where, f"{raw!r:.80}: exactly one of {', '.join(_KINDS)} is needed")
        kind = kinds[0]
        unknown = raw.keys() - _KINDS[kind]
        if unknown:
            raise self._fault(where, f"{kind} knows no {', '.join(sorted(unknown))}")
        if kind in ("all", "any"):
            nodes = [
                self._node(part, f"{where}.{kind}.{i}", axis) for i, part in enumerate(raw[kind])
            ]
            return condition_nodes.AllOf(nodes) if kind == "all" else condition_nodes.AnyOf(nodes)
        if kind == "not":
            return condition_nodes.Negation(self._node(raw["not"], f"{where}.not", axis))
        try:
            return self._atom(kind, raw, where, axis)
        except (KeyError, ValueError, TypeError) as error:
            raise self._fault(where, f"{raw!r:.80}: {error}") from None

    def _atom(
        self, kind: str, raw: Condition, where: str, axis: int
    ) -> condition_nodes.ConditionNode:
        if kind == "score":
            return self._score_atom(raw, where)
        if kind == "count":
            return self._count_atom(raw, where)
        if kind == "seen":
            return condition_nodes.SeenWithin(
                self._seen_slot(raw["seen"], where), _window(raw.get("within"))
            )
        if kind == "silent":
            return condition_nodes.Negation(
                condition_nodes.SeenWithin(
                    self._seen_slot(raw["silent"], where), parse_duration(raw["for"])
                )
            )
        if kind == "trait":
            return condition_nodes.TraitEquals(self._trait_slot(raw["trait"]), str(raw["equals"]))
        return self._axis_atom(raw, where, axis)

    def _score_atom(self, raw: Condition, where: str) -> condition_nodes.ConditionNode:
        score = self._score(raw["score"], where)
        if ("at_least" in raw) == ("below" in raw):
            raise self._fault(where, "a score needs either at_least or below")
        threshold = float(raw["at_least"] if "at_least" in raw else raw["below"])
        if threshold == 0.0:
            raise self._fault(
                where, "a decayed score nears 0 without reaching it: compare with another number"
            )
        atom = self.score_atoms.get((score, threshold))
        if atom is None:
            number = self.engine.atoms
            self.engine.atoms += 1
            self.engine.atoms_of_score[score].append(number)
            atom = condition_nodes.ScoreAtLeast(
                number, score, threshold, self.engine.half_lives[score]
            )
            self.score_atoms[score, threshold] = atom
        return atom if "at_least" in raw else condition_nodes.Negation(atom)

    def _count_atom(self, raw: Condition, where: str) -> condition_nodes.ConditionNode:
        rule = self.engine.signals[self._signal(raw["count"], where)]
        n = int(raw["at_least"])
        if n < 1:
            raise self._fault(where, "at_least is 1 or more")
        if rule.ring < 0:
            rule.ring, self.engine.rings = self.engine.rings, self.engine.rings + 1
        rule.ring_size = max(rule.ring_size, n)
        return condition_nodes.CountAtLeast(rule.ring, n, _window(raw.get("within")))

    def _seen_slot(self, name: Any, where: str) -> int:
        if name == "any":
            return 0
        rule = self.engine.signals[self._signal(name, where)]
        if rule.seen < 0:
            rule.seen, self.engine.seen_slots = self.engine.seen_slots, self.engine.seen_slots + 1
        return rule.seen

    def _trait_slot(self, name: str) -> int:
        if name not in self.engine.trait_names:
            self.engine.trait_names.append(name)
        return self.engine.trait_names.index(name)

    def _axis_atom(self, raw: Condition, where: str, axis: int) -> condition_nodes.ConditionNode:
        names = self.engine.axis_names
        if raw["axis"] not in names[:axis]:
            raise self._fault(where, f"axis {raw['axis']!r} is not declared before this one")
        number = names.index(raw["axis"])
        places = [stage.name for stage in self.spec.axes[number].stages]
        if raw["at_least"] not in places:
            raise self._fault(where, f"axis {raw['axis']} has no stage {raw['at_least']!r}")
        return condition_nodes.AxisAtLeast(number, places.index(raw["at_least"]))


_KINDS: dict[str, set[str]] = {
    "all": {"all"},
    "any": {"any"},
    "not": {"not"},
    "score": {"score", "at_least", "below"},
    "count": {"count", "within", "at_least"},
    "seen": {"seen", "within"},
    "silent": {"silent", "for"},
    "trait": {"trait", "equals"},
    "axis": {"axis", "at_least"},
}


def _window(value: Any) -> int:
    """Return a window in microseconds; none means ever."""
    return FOREVER // 2 if value is None else parse_duration(value)
