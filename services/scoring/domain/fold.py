"""The fold and the advance: `state(subject, t) = advance(fold(sorted touchpoints), t)`.

At one instant time goes first: flips due at or before t, then the touchpoint at t, settled on its own. So the order of
arrival, the batches and the calls of `advance` leave no trace. `advance` moves stages and never values: a score is
(value, as_of) and changes by a contribution only.
"""

from collections.abc import Iterable

from libs.common.decay import FOREVER, decay
from services.scoring.domain.compiled_cycle import AxisRule, CompiledCycle, ScoreContribution
from services.scoring.domain.condition_nodes import ConditionNode
from services.scoring.domain.fold_state import FoldState
from services.scoring.domain.move import Move, Position
from services.scoring.domain.signal_classifier import FoldEvent

DAY = 86_400_000_000


def fold(engine: CompiledCycle, state: FoldState, occurrences: Iterable[FoldEvent]) -> list[Move]:
    """Apply occurrences in key order, all after `state.key`, to the state; return the moves."""
    moves: list[Move] = []
    for occurrence in occurrences:
        apply_event(engine, state, occurrence, moves)
    return moves


def apply_event(
    engine: CompiledCycle,
    state: FoldState,
    occurrence: FoldEvent,
    moves: list[Move],
    given: list[tuple[int, int, float]] | None = None,
) -> None:
    """Apply one occurrence: first the flips up to its instant, then what it records, then the axes.

    With `given`, every contribution is noted there as (signal, score, points); explaining is the fold run once more.
    """
    first = state.is_empty
    if not first:
        advance(engine, state, occurrence.at, moves)
    instance = state.instance
    success = _record(engine, state, occurrence, given)
    if first or (success and engine.ring_of[engine.engagement_stage(state)] >= engine.repeat_ring):
        state.instance = f"{occurrence.source}:{occurrence.message_id}"
    _settle(engine, state, occurrence.at, instance, occurrence, moves)


def advance(engine: CompiledCycle, state: FoldState, until: int, moves: list[Move]) -> None:
    """Make every flip due at or before `until`, each at its exact instant."""
    while True:
        if state.wake == 0:
            state.wake = next_flip_at(engine, state)
        wake = state.wake
        if wake > until:
            return
        _settle(engine, state, wake, state.instance, None, moves)


def current_position(engine: CompiledCycle, state: FoldState) -> Position:
    """Return where a state with at least one touchpoint stands."""
    return _position(engine, state.places, state.dormant, state.instance)


def _position(engine: CompiledCycle, places: list[int], dormant: bool, instance: str) -> Position:
    names = [axis.places[place].name for axis, place in zip(engine.axes, places, strict=True)]
    return Position(
        engine.cells[places[engine.sales]][places[engine.buying]], names, dormant, instance
    )


def _record(
    engine: CompiledCycle,
    state: FoldState,
    occurrence: FoldEvent,
    given: list[tuple[int, int, float]] | None,
) -> bool:
    """Write down what the occurrence says; return whether it is a success that may open the next instance."""
    at = occurrence.at
    if state.is_empty or occurrence.present:
        state.seen[0] = at
    state.at, state.source, state.message_id = (
        occurrence.at,
        occurrence.source,
        occurrence.message_id,
    )
    state.count += 1
    for name, value in occurrence.traits.items():
        state.traits[engine.trait_names.index(name)] = (
            value if isinstance(value, str) else repr(value)
        )
    success = False
    for number in occurrence.signals:
        rule = engine.signals[number]
        success = success or number == engine.repeat_signal
        if rule.seen >= 0:
            state.seen[rule.seen] = at
        if rule.ring >= 0:
            ring = state.rings[rule.ring]
            ring.append(at)
            if len(ring) > rule.ring_size:
                del ring[0]
        for contribution in rule.contributions:
            points = _contribute(engine, state, contribution, at)
            if given is not None and points != 0.0:
                given.append((number, contribution.score, points))
    return success


def _contribute(
    engine: CompiledCycle, state: FoldState, contribution: ScoreContribution, at: int
) -> float:
    """Add a contribution as far as its cap of the day leaves room; return the points."""
    points = contribution.points
    slot = contribution.cap_slot
    if slot >= 0:
        day = at // DAY
        if state.used_day[slot] != day:
            state.used_day[slot], state.used[slot] = day, 0.0
        room = contribution.cap - state.used[slot]
        points = min(points, room) if points > 0 else max(points, -room)
        state.used[slot] += abs(points)
        if points == 0.0:
            return points
    score = contribution.score
    elapsed = at - state.as_of[score]
    state.values[score] = state.values[score] * decay(elapsed, engine.half_lives[score]) + points
    state.as_of[score] = at
    for atom in engine.atoms_of_score[score]:
        state.deadlines[atom] = 0
    return points


def _settle(
    engine: CompiledCycle,
    state: FoldState,
    t: int,
    instance: str,
    cause: FoldEvent | None,
    moves: list[Move],
) -> None:
    """Move each axis at most once, in declared order, look at the flag and the map, and note one move if any.

    `instance` is the cycle instance before. Positions are built for a move only: most touchpoints make none.
    """
    places, dormant = state.places, state.dormant
    hand = cause if cause is not None and cause.manual else None
    for axis in engine.axes:
        place = -1 if hand is None else _by_hand(axis, state, hand)
        if place < 0:
            place = _place(axis, state, t)
        if place != state.places[axis.number]:
            if state.places is places:
                state.places = places.copy()
            state.places[axis.number] = place
            state.since[axis.number] = t
    state.dormant = engine.dormant.horizon(state, t) > 0
    state.looked_at = t
    state.wake = 0
    if state.places is places and state.dormant == dormant and state.instance == instance:
        return
    state.seq += 1
    source, message_id = (cause.source, cause.message_id) if cause else ("", "")
    before = None if places[0] < 0 else _position(engine, places, dormant, instance)
    after, values = current_position(engine, state), engine.score_values_at(state, t)
    moves.append(
        Move(engine.version, state.seq, t, cause is None, source, message_id, before, after, values)
    )


def _by_hand(axis: AxisRule, state: FoldState, cause: FoldEvent) -> int:
    """Return the place where a person set the axis, and hold it there; -1 for an axis that nobody set.

    For a microsecond at least: whether the rules agree is looked at when the hold is over, and that has to be after now.
    """
    for number, place, until in cause.manual:
        if number == axis.number:
            state.held[number] = max(until, cause.at + 1)
            return place
    return -1


def _place(axis: AxisRule, state: FoldState, t: int) -> int:
    """Return the place on an axis: up to the highest whose `enter` holds, else down only if nothing holds this one."""
    now = state.places[axis.number]
    if t < state.held[axis.number]:
        return now
    for place in range(len(axis.places) - 1, max(now, 0), -1):
        if _enters(axis, place, state, t) > 0:
            return place
    if now <= 0:
        return 0
    if _holds(axis, now, state, t) > 0:
        return now
    for place in range(now - 1, 0, -1):
        if max(_horizon(axis.places[place].stay, state, t), _enters(axis, place, state, t)) > 0:
            return place
    return 0


def _enters(axis: AxisRule, place: int, state: FoldState, t: int) -> int:
    return _horizon(axis.places[place].enter, state, t)


def _holds(axis: AxisRule, place: int, state: FoldState, t: int) -> int:
    """Return the signed horizon of staying: `stay` or `enter` or the minimum dwell."""
    rule = axis.places[place]
    horizon = max(_horizon(rule.stay, state, t), _horizon(rule.enter, state, t))
    if rule.dwell > 0:
        over = state.since[axis.number] + rule.dwell
        horizon = max(horizon, over if t < over else -FOREVER)
    return horizon


def _horizon(node: ConditionNode | None, state: FoldState, t: int) -> int:
    return -FOREVER if node is None else node.horizon(state, t)


def next_flip_at(engine: CompiledCycle, state: FoldState) -> int:
    """Return the first instant after `looked_at` at which a move is possible; FOREVER when none is.

    It may be early, never late: a look that finds nothing just computes the next one.
    """
    t = state.looked_at
    wake = abs(engine.dormant.horizon(state, t))
    for axis in engine.axes:
        now = state.places[axis.number]
        if t < state.held[axis.number]:
            wake = min(wake, state.held[axis.number])
            continue
        for place in range(len(axis.places) - 1, now, -1):
            wake = min(wake, abs(_enters(axis, place, state, t)))
        if now > 0:
            wake = min(wake, abs(_holds(axis, now, state, t)))
    return wake
