"""Why a contact stands where it stands: the fold run once more with a recorder.

Every point of a score names its touchpoint and signal, and the points as they are worth now sum to the score; every stage
names the condition that holds it, with its values and margin, what the next stage lacks, and what will happen if nothing
happens.
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
"""So many moves are foretold."""
_YEARS_AHEAD = 10 * 365 * 86_400_000_000


class ExplainedContribution(msgspec.Struct, frozen=True):
    """Points that a touchpoint gave to a score, and what is left of them."""

    signal: str
    points: float
    worth: float
    occurred_at: int
    source: str
    message_id: str


class ExplainedScore(msgspec.Struct, frozen=True):
    """A score now, as the sum of what is left of its contributions."""

    value: float
    contributions: list[ExplainedContribution]


class ExplainedAxis(msgspec.Struct, frozen=True):
    """Where an axis stands, what holds it there, and what the next stage lacks.

    `held_by` is `enter`, `stay`, `dwell` (its minimum stay is not over), `hand` (a manual stage) or `floor`.
    """

    stage: str
    since: int
    held_by: str
    confidence: float
    condition: ConditionReading | None
    next_stage: str | None
    missing: list[ConditionReading]


class Explanation(msgspec.Struct, frozen=True):
    """One contact in one cycle at one instant."""

    cycle: str
    version: str
    at: int
    stage: str
    dormant: bool
    instance: str
    confidence: float
    """A margin, no probability: the smallest of the axes'."""
    scores: dict[str, ExplainedScore]
    axes: dict[str, ExplainedAxis]
    dormancy: ConditionReading
    moves: list[Move]
    ahead: list[Move]
    """What will happen, and when, if nothing happens."""


def explain(cycle: ActiveCycle, occurrences: Sequence[FoldEvent], at: int) -> Explanation | None:
    """Explain the fold of a contact's occurrences (in key order) at an instant; None before the first of them."""
    engine, state = cycle.engine, cycle.engine.initial_state()
    moves: list[Move] = []
    given: list[list[ExplainedContribution]] = [[] for _ in engine.score_names]
    for occurrence in occurrences:
        if occurrence.at > at:
            break
        noted: list[tuple[int, int, float]] = []
        apply_event(engine, state, occurrence, moves, noted)
        for signal, score, points in noted:
            given[score].append(_contribution(engine, occurrence, signal, score, points, at))
    if state.is_empty:
        return None
    advance(engine, state, at, moves)
    here, reader = current_position(engine, state), ConditionReader(engine, state, at)
    axes = {axis.name: _axis(engine, axis, state, reader, at) for axis in engine.axes}
    values = engine.score_values_at(state, at)
    return Explanation(
        cycle=engine.name,
        version=engine.version,
        at=at,
        stage=here.stage,
        dormant=here.dormant,
        instance=here.instance,
        confidence=min(axis.confidence for axis in axes.values()),
        scores={
            name: ExplainedScore(values[n], given[n]) for n, name in enumerate(engine.score_names)
        },
        axes=axes,
        dormancy=reader.read(engine.spec.dormant),
        moves=moves,
        ahead=_ahead(engine, state, at),
    )


def _contribution(
    engine: CompiledCycle, occurrence: FoldEvent, signal: int, score: int, points: float, at: int
) -> ExplainedContribution:
    worth = points * decay(at - occurrence.at, engine.half_lives[score])
    name = engine.signals[signal].name
    return ExplainedContribution(
        name, points, worth, occurrence.at, occurrence.source, occurrence.message_id
    )


def _axis(
    engine: CompiledCycle, axis: AxisRule, state: FoldState, reader: ConditionReader, at: int
) -> ExplainedAxis:
    stages, place = engine.spec.axes[axis.number].stages, state.places[axis.number]
    here, above = stages[place], stages[place + 1] if place + 1 < len(stages) else None
    lacking = stage_margin.missing_atoms(reader.read(above.enter)) if above and above.enter else []
    condition, held_by, confidence = None, "floor", 1.0
    if at < state.held[axis.number]:
        held_by = "hand"
    elif here.enter is not None:
        entered, stays = reader.read(here.enter), reader.read(here.stay) if here.stay else None
        condition = stays if stays is not None and stays["holds"] else entered
        held_by = "dwell" if not condition["holds"] else "enter" if entered["holds"] else "stay"
        best = [
            stage_margin.stage_margin(reading, here.enter)
            for reading in (entered, stays)
            if reading is not None
        ]
        confidence = max(best)
    return ExplainedAxis(
        here.name,
        state.since[axis.number],
        held_by,
        confidence,
        condition,
        above.name if above else None,
        lacking,
    )


def _ahead(engine: CompiledCycle, state: FoldState, at: int) -> list[Move]:
    """Return the next moves by time alone."""
    view = state.copy()
    found: list[Move] = []
    moves: list[Move] = []
    while len(found) < MAX_FUTURE_MOVES:
        if view.wake == 0:
            view.wake = next_flip_at(engine, view)
        if view.wake > at + _YEARS_AHEAD:
            break
        moves.clear()
        advance(engine, view, view.wake, moves)
        found += moves
    return found
