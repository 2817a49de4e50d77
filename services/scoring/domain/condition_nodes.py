"""Conditions as data that `advance` can solve.

A condition evaluates at an instant t to a signed horizon: `+u` means true, with no change before u;
`-u` means false, with no change before u. So `all` is min, `any` is max and `not` is negation, and
one pass gives both the truth and a sound instant of the next evaluation.
"""

from libs.common.decay import FOREVER, find_crossing
from services.scoring.domain.fold_state import FoldState


class ConditionNode:
    """A condition."""

    def horizon(self, state: FoldState, t: int) -> int:
        """Return the signed horizon at t."""
        raise NotImplementedError


class ScoreAtLeast(ConditionNode):
    """A score's decayed value is at least `threshold`; its crossing is cached until it changes."""

    def __init__(self, atom: int, score: int, threshold: float, half_life: int) -> None:
        self.atom = atom
        self.score = score
        self.threshold = threshold
        self.half_life = half_life

    def horizon(self, state: FoldState, t: int) -> int:
        deadline = state.deadlines[self.atom]
        if deadline == 0:
            deadline = state.deadlines[self.atom] = self._deadline(state)
        if deadline > 0:
            return deadline if t < deadline else -FOREVER
        return deadline if t < -deadline else FOREVER

    def _deadline(self, state: FoldState) -> int:
        """Return +u: true until u, false after; -u: false until u, true after."""
        value = state.values[self.score]
        k = find_crossing(value, self.threshold, self.half_life)
        until = FOREVER if k >= FOREVER else state.as_of[self.score] + k
        return until if value >= self.threshold else -until


class CountAtLeast(ConditionNode):
    """A signal was seen at least n times in (t - window, t].

    It stays true until the n-th newest touchpoint leaves the window.
    """

    def __init__(self, ring: int, n: int, window: int) -> None:
        self.ring = ring
        self.n = n
        self.window = window

    def horizon(self, state: FoldState, t: int) -> int:
        ring = state.rings[self.ring]
        if len(ring) < self.n:
            return -FOREVER
        until = ring[-self.n] + self.window
        return until if t < until else -FOREVER


class SeenWithin(ConditionNode):
    """A signal, or any own act, was seen less than `window` ago."""

    def __init__(self, slot: int, window: int) -> None:
        self.slot = slot
        self.window = window

    def horizon(self, state: FoldState, t: int) -> int:
        last = state.seen[self.slot]
        until = last + self.window
        return until if last >= 0 and t < until else -FOREVER


class TraitEquals(ConditionNode):
    """A trait has this value."""

    def __init__(self, slot: int, value: str) -> None:
        self.slot = slot
        self.value = value

    def horizon(self, state: FoldState, t: int) -> int:  # noqa: ARG002
        return FOREVER if state.traits[self.slot] == self.value else -FOREVER


class AxisAtLeast(ConditionNode):
    """An axis declared before this one stands at `place` or beyond."""

    def __init__(self, axis: int, place: int) -> None:
        self.axis = axis
        self.place = place

    def horizon(self, state: FoldState, t: int) -> int:  # noqa: ARG002
        return FOREVER if state.places[self.axis] >= self.place else -FOREVER


class AllOf(ConditionNode):
    """Every one holds."""

    def __init__(self, nodes: list[ConditionNode]) -> None:
        self.nodes = nodes

    def horizon(self, state: FoldState, t: int) -> int:
        least = FOREVER
        for node in self.nodes:
            least = min(least, node.horizon(state, t))
        return least


class AnyOf(ConditionNode):
    """At least one holds."""

    def __init__(self, nodes: list[ConditionNode]) -> None:
        self.nodes = nodes

    def horizon(self, state: FoldState, t: int) -> int:
        most = -FOREVER
        for node in self.nodes:
            most = max(most, node.horizon(state, t))
        return most


class Negation(ConditionNode):
    """It does not hold."""

    def __init__(self, node: ConditionNode) -> None:
        self.node = node

    def horizon(self, state: FoldState, t: int) -> int:
        return -self.node.horizon(state, t)
