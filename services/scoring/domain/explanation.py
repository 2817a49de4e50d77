"""Explanation of a contact's position: the fold again, with a recorder.

Every point of a score names its touchpoint and signal, and the decayed points sum to the score.
Every axis names the condition that keeps its stage, with values and margin, and the atoms that the
next stage still needs. `ahead` lists the moves that time alone will make.
"""

from collections.abc import Sequence

import msgspec

from libs.common.decay import decay
from services.scoring.domain import stage_margin
from services.scoring.domain.compiled_cycle import AxisRule, CompiledCycle
from services.scoring.domain.cycle import ActiveCycle
from services.scoring.domain.fold import advance, apply_event, current_position, next_flip_at
from services.scoring.domain.fold_state import FoldState
from services.scoring.domain.move import Move
from services.scoring.domain.signal_classifier import FoldEvent
from services.scoring.domain.stage_margin import ConditionReader, ConditionReading

MAX_FUTURE_MOVES = 20
"""Most moves by time that an explanation lists, all within ten years."""
_TEN_YEARS = 10 * 365 * 86_400_000_000


class ExplainedContribution(msgspec.Struct, frozen=True):
    """Points that a touchpoint added to a score, and their decayed worth at the instant asked."""

    signal: str
    points: float
    worth: float
    occurred_at: int
    source: str
    message_id: str


class ExplainedScore(msgspec.Struct, frozen=True):
    """A score at the instant asked; the `worth` of its contributions sums to `value`."""

    value: float
    contributions: list[ExplainedContribution]


class ExplainedAxis(msgspec.Struct, frozen=True):
    """An axis's stage, the rule that keeps it, and the atoms that the next stage still needs.

    `since` is the instant (µs UTC) of entering the stage. `held_by` is `enter`, `stay`, `dwell`
    (the minimum stay is not over), `hand` (a manual stage) or `floor`.
    """

    stage: str
    since: int
    held_by: str
    confidence: float
    condition: ConditionReading | None
    next_stage: str | None
    missing: list[ConditionReading]


class Explanation(msgspec.Struct, frozen=True):
    """One contact in one cycle at the instant `at` (µs UTC)."""

    cycle: str
    version: str
    at: int
    stage: str
    dormant: bool
    instance: str
    confidence: float
    """The smallest stage margin of the axes, 0 to 1; a margin and no probability."""
    scores: dict[str, ExplainedScore]
    axes: dict[str, ExplainedAxis]
    dormancy: ConditionReading
    moves: list[Move]
    ahead: list[Move]
    """The next moves by time, if no touchpoint arrives."""


def explain(cycle: ActiveCycle, events: Sequence[FoldEvent], at: int) -> Explanation | None:
    """Explain the fold of a contact's events, in key order, at an instant in microseconds UTC.

    Later events are ignored. None before the first event.
    """
    compiled, state = cycle.engine, cycle.engine.initial_state()
    moves: list[Move] = []
    contributions: list[list[ExplainedContribution]] = [[] for _ in compiled.score_names]
    for event in events:
        if event.at > at:
            break
        recorder: list[tuple[int, int, float]] = []
        apply_event(compiled, state, event, moves, recorder)
        for signal, score, points in recorder:
            contributions[score].append(_contribution(compiled, event, signal, score, points, at))
    if state.is_empty:
        return None
    advance(compiled, state, at, moves)
    position, reader = current_position(compiled, state), ConditionReader(compiled, state, at)
    axes = {axis.name: _explain_axis(compiled, axis, state, reader, at) for axis in compiled.axes}
    values = compiled.score_values_at(state, at)
    return Explanation(
        cycle=compiled.name,
        version=compiled.version,
        at=at,
        stage=position.stage,
        dormant=position.dormant,
        instance=position.instance,
        confidence=min(axis.confidence for axis in axes.values()),
        scores={
            name: ExplainedScore(values[n], contributions[n])
            for n, name in enumerate(compiled.score_names)
        },
        axes=axes,
        dormancy=reader.read(compiled.spec.dormant),
        moves=moves,
        ahead=_future_moves(compiled, state, at),
    )


def _contribution(
    cycle: CompiledCycle, event: FoldEvent, signal: int, score: int, points: float, at: int
) -> ExplainedContribution:
    worth = points * decay(at - event.at, cycle.half_lives[score])
    name = cycle.signals[signal].name
    return ExplainedContribution(name, points, worth, event.at, event.source, event.message_id)


def _explain_axis(
    cycle: CompiledCycle, axis: AxisRule, state: FoldState, reader: ConditionReader, at: int
) -> ExplainedAxis:
    stages, index = cycle.spec.axes[axis.number].stages, state.places[axis.number]
    current = stages[index]
    upper = stages[index + 1] if index + 1 < len(stages) else None
    missing = stage_margin.missing_atoms(reader.read(upper.enter)) if upper and upper.enter else []
    condition, held_by, confidence = None, "floor", 1.0
    if at < state.manual_until[axis.number]:
        held_by = "hand"
    elif current.enter is not None:
        enter = reader.read(current.enter)
        stay = reader.read(current.stay) if current.stay else None
        condition = stay if stay is not None and stay["holds"] else enter
        held_by = "dwell" if not condition["holds"] else "enter" if enter["holds"] else "stay"
        margins = [
            stage_margin.stage_margin(reading, current.enter)
            for reading in (enter, stay)
            if reading is not None
        ]
        confidence = max(margins)
    return ExplainedAxis(
        current.name,
        state.since[axis.number],
        held_by,
        confidence,
        condition,
        upper.name if upper else None,
        missing,
    )


def _future_moves(cycle: CompiledCycle, state: FoldState, at: int) -> list[Move]:
    """Return the next moves by time alone, without changing the state."""
    future_state = state.copy()
    future_moves: list[Move] = []
    moves: list[Move] = []
    while len(future_moves) < MAX_FUTURE_MOVES:
        if future_state.next_flip == 0:
            future_state.next_flip = next_flip_at(cycle, future_state)
        if future_state.next_flip > at + _TEN_YEARS:
            break
        moves.clear()
        advance(cycle, future_state, future_state.next_flip, moves)
        future_moves += moves
    return future_moves
