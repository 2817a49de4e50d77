"""A compiled cycle: names are numbers, conditions are nodes that the fold evaluates."""

from libs.common.decay import decay
from services.scoring.domain.condition_nodes import ConditionNode
from services.scoring.domain.cycle_spec import CycleSpec
from services.scoring.domain.fold_state import FoldState, decode_state


class ScoreContribution:
    """Points that one signal adds to one score.

    `cap` is the most that they may add per UTC day of `occurred_at`; `cap_slot` is the index of
    the day's total in the state, -1 without a cap.
    """

    def __init__(self, score: int, points: float, cap: float, cap_slot: int) -> None:
        self.score = score
        self.points = points
        self.cap = cap
        self.cap_slot = cap_slot


class SignalRule:
    """A signal's effects on the state.

    `ring` is the slot of the signal's newest `ring_size` instants, for `count` conditions; `seen`
    the slot of its last instant, for `seen` and `silent` conditions. Each is -1 when no condition
    needs it.
    """

    def __init__(self, name: str, publish: bool) -> None:
        self.name = name
        self.publish = publish
        self.contributions: list[ScoreContribution] = []
        self.ring = -1
        self.ring_size = 0
        self.seen = -1


class StageRule:
    """The conditions of one stage of an axis; the first stage, the floor, has none.

    `dwell` is the minimum stay in microseconds, 0 for none.
    """

    def __init__(
        self, name: str, enter: ConditionNode | None, stay: ConditionNode | None, dwell: int
    ) -> None:
        self.name = name
        self.enter = enter
        self.stay = stay
        self.dwell = dwell


class AxisRule:
    """An axis: its number in the order of declaration, and its stages from the floor up."""

    def __init__(self, number: int, name: str, places: list[StageRule]) -> None:
        self.number = number
        self.name = name
        self.places = places


class CompiledCycle:
    """A compiled cycle version; `services.scoring.domain.cycle_compiler` builds it.

    `fold` is the name `cycle@version` under which its states are stored. `cells` is the map:
    `cells[sales stage][buying stage]` is an engagement stage, and `ring_of` has the ring of each
    (0 is the outermost). `atoms`, `caps`, `rings` and `seen_slots` count the slots that a state
    needs; `atoms_of_score` has the atoms to solve again when a score changes. `repeat_signal` (-1
    for none) opens the next cycle instance from `repeat_ring` inward.
    """

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
        """Slot 0 is `any`: the last observed act of the contact's own initiative."""
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

    def decode_state(self, raw: bytes) -> FoldState:
        """Rebuild a stored state from its bytes."""
        return decode_state(raw, self.atoms, self.caps)

    def engagement_stage(self, state: FoldState) -> str:
        """Return the engagement stage that the map has for the state's sales and buying stages."""
        return self.cells[state.places[self.sales]][state.places[self.buying]]

    def score_values_at(self, state: FoldState, t: int) -> list[float]:
        """Return every score at t (µs UTC), decayed from the instant of its last contribution."""
        return [
            value * decay(t - as_of, half_life)
            for value, as_of, half_life in zip(
                state.values, state.as_of, self.half_lives, strict=True
            )
        ]
