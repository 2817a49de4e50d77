"""Why a contact stands where it stands: the fold run once more with a recorder.

Every point of a score names its touchpoint and signal, and the points as they are worth now sum to the score; every stage
names the condition that holds it, with its values and margin, what the next stage lacks, and what will happen if nothing
happens.
"""

from collections.abc import Sequence

import msgspec

from services.scoring.domain import margin
from services.scoring.domain.classify import Occurrence
from services.scoring.domain.cycle import Cycle
from services.scoring.domain.decay import decay
from services.scoring.domain.engine import AxisRule, Engine
from services.scoring.domain.fold import advance, apply, next_wake, position
from services.scoring.domain.margin import Reader, Reading
from services.scoring.domain.move import Move
from services.scoring.domain.state import State

AHEAD = 20
"""So many moves are foretold."""
_YEARS_AHEAD = 10 * 365 * 86_400_000_000


class Contribution(msgspec.Struct, frozen=True):
    """Points that a touchpoint gave to a score, and what is left of them."""

    signal: str
    points: float
    worth: float
    occurred_at: int
    source: str
    message_id: str


class Score(msgspec.Struct, frozen=True):
    """A score now, as the sum of what is left of its contributions."""

    value: float
    contributions: list[Contribution]


class Axis(msgspec.Struct, frozen=True):
    """Where an axis stands, what holds it there, and what the next stage lacks.

    `held_by` is `enter`, `stay`, `dwell` (its minimum stay is not over), `hand` (a manual stage) or `floor`.
    """

    stage: str
    since: int
    held_by: str
    confidence: float
    condition: Reading | None
    next_stage: str | None
    missing: list[Reading]


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
    scores: dict[str, Score]
    axes: dict[str, Axis]
    dormancy: Reading
    moves: list[Move]
    ahead: list[Move]
    """What will happen, and when, if nothing happens."""


def explain(cycle: Cycle, occurrences: Sequence[Occurrence], at: int) -> Explanation | None:
    """Explain the fold of a contact's occurrences (in key order) at an instant; None before the first of them."""
    engine, state = cycle.engine, cycle.engine.fresh()
    moves: list[Move] = []
    given: list[list[Contribution]] = [[] for _ in engine.score_names]
    for occurrence in occurrences:
        if occurrence.at > at:
            break
        noted: list[tuple[int, int, float]] = []
        apply(engine, state, occurrence, moves, noted)
        for signal, score, points in noted:
            given[score].append(_contribution(engine, occurrence, signal, score, points, at))
    if state.is_empty:
        return None
    advance(engine, state, at, moves)
    here, reader = position(engine, state), Reader(engine, state, at)
    axes = {axis.name: _axis(engine, axis, state, reader, at) for axis in engine.axes}
    values = engine.values_at(state, at)
    return Explanation(
        cycle=engine.name,
        version=engine.version,
        at=at,
        stage=here.stage,
        dormant=here.dormant,
        instance=here.instance,
        confidence=min(axis.confidence for axis in axes.values()),
        scores={name: Score(values[n], given[n]) for n, name in enumerate(engine.score_names)},
        axes=axes,
        dormancy=reader.read(engine.spec.dormant),
        moves=moves,
        ahead=_ahead(engine, state, at),
    )


def _contribution(
    engine: Engine, occurrence: Occurrence, signal: int, score: int, points: float, at: int
) -> Contribution:
    worth = points * decay(at - occurrence.at, engine.half_lives[score])
    name = engine.signals[signal].name
    return Contribution(name, points, worth, occurrence.at, occurrence.source, occurrence.message_id)


def _axis(engine: Engine, axis: AxisRule, state: State, reader: Reader, at: int) -> Axis:
    stages, place = engine.spec.axes[axis.number].stages, state.places[axis.number]
    here, above = stages[place], stages[place + 1] if place + 1 < len(stages) else None
    lacking = margin.missing(reader.read(above.enter)) if above and above.enter else []
    condition, held_by, confidence = None, "floor", 1.0
    if at < state.held[axis.number]:
        held_by = "hand"
    elif here.enter is not None:
        entered, stays = reader.read(here.enter), reader.read(here.stay) if here.stay else None
        condition = stays if stays is not None and stays["holds"] else entered
        held_by = "dwell" if not condition["holds"] else "enter" if entered["holds"] else "stay"
        best = [margin.margin(reading, here.enter) for reading in (entered, stays) if reading is not None]
        confidence = max(best)
    return Axis(
        here.name, state.since[axis.number], held_by, confidence, condition, above.name if above else None, lacking
    )


def _ahead(engine: Engine, state: State, at: int) -> list[Move]:
    """Return the next moves by time alone."""
    view = state.copy()
    found: list[Move] = []
    moves: list[Move] = []
    while len(found) < AHEAD:
        if view.wake == 0:
            view.wake = next_wake(engine, view)
        if view.wake > at + _YEARS_AHEAD:
            break
        moves.clear()
        advance(engine, view, view.wake, moves)
        found += moves
    return found
