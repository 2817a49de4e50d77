"""A cycle compiled: names become numbers, conditions become nodes."""

from libs.common.decay import decay
from services.scoring.domain.condition_nodes import ConditionNode
from services.scoring.domain.cycle_spec import CycleSpec
from services.scoring.domain.fold_state import FoldState


class ScoreContribution:
    """What one signal adds to one score; `cap_slot` is -1 when nothing bounds it."""

    def __init__(self, score: int, points: float, cap: float, cap_slot: int) -> None:
        self.score = score
        self.points = points
        self.cap = cap
        self.cap_slot = cap_slot


class SignalRule:
    """What happens to the state when a signal is seen. `ring` and `seen` are -1 when no condition asks."""

    def __init__(self, name: str, publish: bool) -> None:
        self.name = name
        self.publish = publish
        self.contributions: list[ScoreContribution] = []
        self.ring = -1
        self.ring_size = 0
        self.seen = -1


class StageRule:
    """One stage of an axis. The floor has no conditions."""

    def __init__(
        self, name: str, enter: ConditionNode | None, stay: ConditionNode | None, dwell: int
    ) -> None:
        self.name = name
        self.enter = enter
        self.stay = stay
        self.dwell = dwell


class AxisRule:
    """An axis: its places in order, and the number of itself."""

    def __init__(self, number: int, name: str, places: list[StageRule]) -> None:
        self.number = number
        self.name = name
        self.places = places


class CompiledCycle:
    """A compiled cycle; `services.scoring.domain.cycle_compiler` makes it."""

    def __init__(self, spec: CycleSpec) -> None:
        self.spec = spec
        self.name = spec.cycle
        self.version = spec.version
        self.fold = f"{spec.cycle}@{spec.version}"
        self.half_lives = [score.half_life for score in spec.scores.values()]
        self.score_names = list(spec.scores)
        self.signals: list[SignalRule] = []
        self.trait_names: list[str] = []
        self.axes: list[AxisRule] = []
        self.axis_names = [axis.name for axis in spec.axes]
        self.dormant: ConditionNode = ConditionNode()
        self.atoms_of_score: list[list[int]] = [[] for _ in spec.scores]
        self.atoms = 0
        self.caps = 0
        self.rings = 0
        self.seen_slots = 1
        """Slot 0 is `any`: the last own, observed act."""
        self.sales = self.axis_names.index("sales")
        self.buying = self.axis_names.index("buying")
        self.cells: list[list[str]] = []
        self.ring_of = {stage.name: stage.ring for stage in spec.stages}
        self.repeat_signal = -1
        self.repeat_ring = 0

    def initial_state(self) -> FoldState:
        """Return the state before the first touchpoint."""
        scores, axes = len(self.half_lives), len(self.axes)
        return FoldState(
            0, "", "", [0.0] * scores, [0] * scores, [0.0] * self.caps, [-1] * self.caps,
            [[] for _ in range(self.rings)], [-1] * self.seen_slots, [None] * len(self.trait_names),
            [-1] * axes, [0] * axes, [0] * axes, False, "", 0, 0, self.atoms,
        )  # fmt: skip

    def engagement_stage(self, state: FoldState) -> str:
        """Return the engagement stage of the cell where the state stands."""
        return self.cells[state.places[self.sales]][state.places[self.buying]]

    def score_values_at(self, state: FoldState, t: int) -> list[float]:
        """Return every score's value at t, decayed from its last contribution."""
        return [
            value * decay(t - as_of, half_life)
            for value, as_of, half_life in zip(
                state.values, state.as_of, self.half_lives, strict=True
            )
        ]
