"""Fold and advance: `state(subject, t) = advance(fold(sorted touchpoints), t)`.

Both are pure: no clock, no IO, no randomness; instants are integer microseconds UTC. At one
instant time goes first: the flips due at or before t, then each touchpoint at t on its own, in key
order. So the order of arrival, the batches and the calls of `advance` make no difference to the
result. `advance` moves stages and never values, hence `advance(advance(s, t1), t2)` equals
`advance(s, t2)`: a score is (value, instant of its last contribution) and only a contribution
changes it.
"""

from collections.abc import Iterable

from libs.common.decay import FOREVER, decay
from services.scoring.domain.compiled_cycle import AxisRule, CompiledCycle, ScoreContribution
from services.scoring.domain.condition_nodes import ConditionNode
from services.scoring.domain.fold_state import FoldState
from services.scoring.domain.move import Move, Position
from services.scoring.domain.signal_classifier import FoldEvent

DAY = 86_400_000_000


def fold(cycle: CompiledCycle, state: FoldState, events: Iterable[FoldEvent]) -> list[Move]:
    """Apply events, in key order and all after `state.key`, to the state; return its moves."""
    moves: list[Move] = []
    for event in events:
        apply_event(cycle, state, event, moves)
    return moves


def apply_event(
    cycle: CompiledCycle,
    state: FoldState,
    event: FoldEvent,
    moves: list[Move],
    recorder: list[tuple[int, int, float]] | None = None,
) -> None:
    """Apply one event: the flips up to its instant, then its signals and traits, then the axes.

    Moves are appended to `moves`. A `recorder` gets every contribution that counts as (signal,
    score, points): an explanation is the same fold with a recorder.
    """
    is_first = state.is_empty
    if not is_first:
        advance(cycle, state, event.at, moves)
    instance = state.instance
    is_success = _record(cycle, state, event, recorder)
    if is_first or (
        is_success and cycle.ring_of[cycle.engagement_stage(state)] >= cycle.repeat_ring
    ):
        state.instance = f"{event.source}:{event.message_id}"
    _update_position(cycle, state, event.at, instance, event, moves)


def advance(cycle: CompiledCycle, state: FoldState, until: int, moves: list[Move]) -> None:
    """Apply every flip by time due at or before `until`, each at its exact microsecond."""
    while True:
        if state.next_flip == 0:
            state.next_flip = next_flip_at(cycle, state)
        flip_at = state.next_flip
        if flip_at > until:
            return
        _update_position(cycle, state, flip_at, state.instance, None, moves)


def current_position(cycle: CompiledCycle, state: FoldState) -> Position:
    """Return the position of a state with at least one touchpoint."""
    return _position(cycle, state.places, state.dormant, state.instance)


def _position(
    cycle: CompiledCycle, stage_indexes: list[int], dormant: bool, instance: str
) -> Position:
    names = [axis.places[index].name for axis, index in zip(cycle.axes, stage_indexes, strict=True)]
    stage = cycle.cells[stage_indexes[cycle.sales]][stage_indexes[cycle.buying]]
    return Position(stage, names, dormant, instance)


def _record(
    cycle: CompiledCycle,
    state: FoldState,
    event: FoldEvent,
    recorder: list[tuple[int, int, float]] | None,
) -> bool:
    """Record the event's key, traits, signals and points; return whether it is a success.

    A success is the cycle's `repeat` signal, which may open the next cycle instance.
    """
    at = event.at
    if state.is_empty or event.present:
        state.seen[0] = at
    state.at, state.source, state.message_id = event.at, event.source, event.message_id
    state.count += 1
    for name, value in event.traits.items():
        state.traits[cycle.trait_names.index(name)] = (
            value if isinstance(value, str) else repr(value)
        )
    is_success = False
    for number in event.signals:
        rule = cycle.signals[number]
        is_success = is_success or number == cycle.repeat_signal
        if rule.seen >= 0:
            state.seen[rule.seen] = at
        if rule.ring >= 0:
            ring = state.rings[rule.ring]
            ring.append(at)
            if len(ring) > rule.ring_size:
                del ring[0]
        for contribution in rule.contributions:
            points = _contribute(cycle, state, contribution, at)
            if recorder is not None and points != 0.0:
                recorder.append((number, contribution.score, points))
    return is_success


def _contribute(
    cycle: CompiledCycle, state: FoldState, contribution: ScoreContribution, at: int
) -> float:
    """Add a contribution within the rest of its cap for the UTC day; return the points added.

    The score is decayed to `at` first, so that its value is as of the last contribution.
    """
    points = contribution.points
    slot = contribution.cap_slot
    if slot >= 0:
        day = at // DAY
        if state.cap_day[slot] != day:
            state.cap_day[slot], state.cap_used[slot] = day, 0.0
        remaining = contribution.cap - state.cap_used[slot]
        points = min(points, remaining) if points > 0 else max(points, -remaining)
        state.cap_used[slot] += abs(points)
        if points == 0.0:
            return points
    score = contribution.score
    elapsed = at - state.as_of[score]
    state.values[score] = state.values[score] * decay(elapsed, cycle.half_lives[score]) + points
    state.as_of[score] = at
    for atom in cycle.atoms_of_score[score]:
        state.deadlines[atom] = 0
    return points


def _update_position(
    cycle: CompiledCycle,
    state: FoldState,
    t: int,
    instance: str,
    cause: FoldEvent | None,
    moves: list[Move],
) -> None:
    """Evaluate the axes in declared order, then dormancy and the map; append at most one move.

    Each axis moves at most once per instant and cause. `instance` is the cycle instance before the
    cause; `cause` is None for a flip by time. Positions are built for a move only: most
    touchpoints make none.
    """
    stages_before, dormant_before = state.places, state.dormant
    manual = cause if cause is not None and cause.manual else None
    for axis in cycle.axes:
        index = -1 if manual is None else _apply_manual_stage(axis, state, manual)
        if index < 0:
            index = _evaluate_axis(axis, state, t)
        if index != state.places[axis.number]:
            if state.places is stages_before:
                state.places = stages_before.copy()
            state.places[axis.number] = index
            state.since[axis.number] = t
    state.dormant = cycle.dormant.horizon(state, t) > 0
    state.evaluated_at = t
    state.next_flip = 0
    if (
        state.places is stages_before
        and state.dormant == dormant_before
        and state.instance == instance
    ):
        return
    state.seq += 1
    source, message_id = (cause.source, cause.message_id) if cause else ("", "")
    before = (
        None if stages_before[0] < 0 else _position(cycle, stages_before, dormant_before, instance)
    )
    after, values = current_position(cycle, state), cycle.score_values_at(state, t)
    moves.append(
        Move(cycle.version, state.seq, t, cause is None, source, message_id, before, after, values)
    )


def _apply_manual_stage(axis: AxisRule, state: FoldState, cause: FoldEvent) -> int:
    """Fix an axis at the stage set by hand and return the stage's index; -1 for another axis.

    The stage is fixed for at least one microsecond: the rules are evaluated again when the hold
    ends, and that instant has to be after the correction's own.
    """
    for number, stage_index, until in cause.manual:
        if number == axis.number:
            state.manual_until[number] = max(until, cause.at + 1)
            return stage_index
    return -1


def _evaluate_axis(axis: AxisRule, state: FoldState, t: int) -> int:
    """Return the index of an axis's stage at t.

    Upward: the highest stage above the current one whose `enter` is true. Else the current stage,
    while `stay`, `enter` or its minimum dwell keeps it. Else downward: the highest stage below
    whose `stay` or `enter` is true, down to the floor (0).
    """
    current = state.places[axis.number]
    if t < state.manual_until[axis.number]:
        return current
    for index in range(len(axis.places) - 1, max(current, 0), -1):
        if _enter_horizon(axis, index, state, t) > 0:
            return index
    if current <= 0:
        return 0
    if _stay_horizon(axis, current, state, t) > 0:
        return current
    for index in range(current - 1, 0, -1):
        stay = _horizon(axis.places[index].stay, state, t)
        if max(stay, _enter_horizon(axis, index, state, t)) > 0:
            return index
    return 0


def _enter_horizon(axis: AxisRule, index: int, state: FoldState, t: int) -> int:
    return _horizon(axis.places[index].enter, state, t)


def _stay_horizon(axis: AxisRule, index: int, state: FoldState, t: int) -> int:
    """Return the signed horizon of staying: `stay` or `enter` or the minimum dwell."""
    rule = axis.places[index]
    horizon = max(_horizon(rule.stay, state, t), _horizon(rule.enter, state, t))
    if rule.dwell > 0:
        dwell_end = state.since[axis.number] + rule.dwell
        horizon = max(horizon, dwell_end if t < dwell_end else -FOREVER)
    return horizon


def _horizon(node: ConditionNode | None, state: FoldState, t: int) -> int:
    return -FOREVER if node is None else node.horizon(state, t)


def next_flip_at(cycle: CompiledCycle, state: FoldState) -> int:
    """Return the first instant after `evaluated_at` at which a flip is possible, else FOREVER.

    The instant may be early, never late: an evaluation without a flip computes the next one.
    """
    t = state.evaluated_at
    flip_at = abs(cycle.dormant.horizon(state, t))
    for axis in cycle.axes:
        current = state.places[axis.number]
        if t < state.manual_until[axis.number]:
            flip_at = min(flip_at, state.manual_until[axis.number])
            continue
        for index in range(len(axis.places) - 1, current, -1):
            flip_at = min(flip_at, abs(_enter_horizon(axis, index, state, t)))
        if current > 0:
            flip_at = min(flip_at, abs(_stay_horizon(axis, current, state, t)))
    return flip_at
