"""From a cycle's specification to a compiled cycle; a wrong reference is a fault with its place."""

from libs.common.conditions import (
    AllCondition,
    AnyCondition,
    AxisCondition,
    Condition,
    ConditionModel,
    CountCondition,
    NotCondition,
    Place,
    ScoreCondition,
    SeenCondition,
    SilentCondition,
    TraitCondition,
)
from libs.common.conditions.models import kind_of
from libs.common.decay import FOREVER, MAX_HALF_LIFE
from libs.common.documents import DocumentFault
from services.scoring.domain import condition_nodes
from services.scoring.domain.compiled_cycle import (
    AxisRule,
    CompiledCycle,
    ScoreContribution,
    SignalRule,
    StageRule,
)
from services.scoring.domain.cycle_spec import AxisStageSpec, CycleSpec

_EVER = FOREVER // 2
"""A window without an end, in microseconds."""


def compile_cycle(spec: CycleSpec) -> CompiledCycle:
    """Return the compiled cycle. Raises DocumentFault naming the place that cannot be compiled."""
    return _CycleCompiler(spec).compile()


class _CycleCompiler:
    def __init__(self, spec: CycleSpec) -> None:
        self.spec = spec
        self.compiled = CompiledCycle(spec)
        self.signal_numbers = {name: number for number, name in enumerate(spec.signals)}
        self.score_atoms: dict[tuple[int, float], condition_nodes.ScoreAtLeast] = {}

    def compile(self) -> CompiledCycle:
        compiled, spec = self.compiled, self.spec
        for name, score in spec.scores.items():
            if score.half_life > MAX_HALF_LIFE:
                place = ("scores", name, "half_life")
                raise self._fault(place, "at most 3653d (decay is exact up to there)")
        self._compile_signals()
        for number, axis in enumerate(spec.axes):
            stages = [
                self._stage_rule(("axes", number, "stages", index), index, stage, number)
                for index, stage in enumerate(axis.stages)
            ]
            compiled.axes.append(AxisRule(number, axis.name, stages))
        compiled.dormant = self._node(spec.dormant, ("dormant",), len(spec.axes))
        compiled.cells = [
            [spec.map[sales.name][buying.name] for buying in spec.axes[compiled.buying].stages]
            for sales in spec.axes[compiled.sales].stages
        ]
        if spec.repeat is not None:
            compiled.repeat_signal = self._signal(spec.repeat.signal, ("repeat", "signal"))
            stage = spec.repeat.from_stage
            if stage not in compiled.ring_of:
                raise self._fault(("repeat", "from_stage"), f"no stage {stage!r}")
            compiled.repeat_ring = compiled.ring_of[stage]
        return compiled

    def _fault(self, place: Place, reason: str) -> DocumentFault:
        return DocumentFault(f"cycle {self.spec.cycle}", place, reason)

    def _compile_signals(self) -> None:
        for name, signal in self.spec.signals.items():
            rule = SignalRule(name, signal.publish)
            for number, added in enumerate(signal.adds):
                score = self._score(added.score, ("signals", name, "adds", number, "score"))
                cap_slot = -1
                if added.cap is not None:
                    cap_slot, self.compiled.caps = self.compiled.caps, self.compiled.caps + 1
                rule.contributions.append(
                    ScoreContribution(score, added.points, added.cap or 0.0, cap_slot)
                )
            self.compiled.signals.append(rule)

    def _score(self, name: str, place: Place) -> int:
        names = self.compiled.score_names
        if name not in names:
            raise self._fault(place, f"no score {name!r}; there are {', '.join(names)}")
        return names.index(name)

    def _signal(self, name: str, place: Place) -> int:
        if name not in self.signal_numbers:
            known = ", ".join(self.signal_numbers)
            raise self._fault(place, f"no signal {name!r}; there are {known}")
        return self.signal_numbers[name]

    def _stage_rule(self, place: Place, index: int, stage: AxisStageSpec, axis: int) -> StageRule:
        if index == 0:
            if stage.enter or stage.stay or stage.dwell:
                raise self._fault(place, "the first stage is the floor: it has no condition")
            return StageRule(stage.name, None, None, 0)
        if stage.enter is None:
            raise self._fault(place, "needs an `enter` condition")
        enter = self._node(stage.enter, (*place, "enter"), axis)
        stay = self._node(stage.stay, (*place, "stay"), axis) if stage.stay else None
        return StageRule(stage.name, enter, stay, stage.dwell or 0)

    def _node(self, condition: Condition, place: Place, axis: int) -> condition_nodes.ConditionNode:
        """Compile a condition; one of axis number `axis` may refer to earlier axes only."""
        match condition:
            case AllCondition():
                return condition_nodes.AllOf(
                    [
                        self._node(part, (*place, "all", number), axis)
                        for number, part in enumerate(condition.all)
                    ]
                )
            case AnyCondition():
                return condition_nodes.AnyOf(
                    [
                        self._node(part, (*place, "any", number), axis)
                        for number, part in enumerate(condition.any)
                    ]
                )
            case NotCondition():
                return condition_nodes.Negation(self._node(condition.not_, (*place, "not"), axis))
            case _:
                return self._atom(condition, place, axis)

    def _atom(
        self, condition: ConditionModel, place: Place, axis: int
    ) -> condition_nodes.ConditionNode:
        if "cycle" in condition.model_fields_set:
            raise self._fault((*place, "cycle"), "a cycle's conditions are about the cycle itself")
        match condition:
            case ScoreCondition():
                return self._score_node(condition, place)
            case CountCondition():
                return self._count_node(condition, place)
            case SeenCondition():
                slot = self._seen_slot(condition.seen, (*place, "seen"))
                return condition_nodes.SeenWithin(slot, condition.within or _EVER)
            case SilentCondition():
                slot = self._seen_slot(condition.silent, (*place, "silent"))
                seen = condition_nodes.SeenWithin(slot, condition.for_)
                return condition_nodes.Negation(seen)
            case TraitCondition():
                return self._trait_node(condition, place)
            case AxisCondition():
                return self._axis_node(condition, place, axis)
        kind = kind_of(condition)
        raise self._fault(place, f"a cycle knows no {kind}: it is for plays and segments")

    def _score_node(self, condition: ScoreCondition, place: Place) -> condition_nodes.ConditionNode:
        score, threshold = self._score(condition.score, (*place, "score")), condition.threshold
        atom = self.score_atoms.get((score, threshold))
        if atom is None:
            number = self.compiled.atoms
            self.compiled.atoms += 1
            self.compiled.atoms_of_score[score].append(number)
            half_life = self.compiled.half_lives[score]
            atom = condition_nodes.ScoreAtLeast(number, score, threshold, half_life)
            self.score_atoms[score, threshold] = atom
        return atom if condition.at_least is not None else condition_nodes.Negation(atom)

    def _count_node(self, condition: CountCondition, place: Place) -> condition_nodes.ConditionNode:
        rule = self.compiled.signals[self._signal(condition.count, (*place, "count"))]
        if rule.ring < 0:
            rule.ring, self.compiled.rings = self.compiled.rings, self.compiled.rings + 1
        rule.ring_size = max(rule.ring_size, condition.at_least)
        return condition_nodes.CountAtLeast(
            rule.ring, condition.at_least, condition.within or _EVER
        )

    def _seen_slot(self, name: str, place: Place) -> int:
        if name == "any":
            return 0
        rule = self.compiled.signals[self._signal(name, place)]
        if rule.seen < 0:
            rule.seen, self.compiled.seen_slots = (
                self.compiled.seen_slots,
                self.compiled.seen_slots + 1,
            )
        return rule.seen

    def _trait_node(self, condition: TraitCondition, place: Place) -> condition_nodes.ConditionNode:
        if condition.comparison != "equals":
            raise self._fault(
                (*place, condition.comparison), "a cycle compares traits by `equals` alone"
            )
        names = self.compiled.trait_names
        if condition.trait not in names:
            names.append(condition.trait)
        return condition_nodes.TraitEquals(names.index(condition.trait), str(condition.equals))

    def _axis_node(
        self, condition: AxisCondition, place: Place, axis: int
    ) -> condition_nodes.ConditionNode:
        names = self.compiled.axis_names
        if condition.axis not in names[:axis]:
            reason = f"axis {condition.axis!r} is not declared before this one"
            raise self._fault((*place, "axis"), reason)
        number = names.index(condition.axis)
        stages = [stage.name for stage in self.spec.axes[number].stages]
        if condition.stage not in stages:
            raise self._fault(place, f"axis {condition.axis} has no stage {condition.stage!r}")
        node = condition_nodes.AxisAtLeast(number, stages.index(condition.stage))
        return node if condition.at_least is not None else condition_nodes.Negation(node)
