"""One contact in one cycle, taken forward: fold, advance a copy as far as the world was told, publish."""

from collections.abc import Sequence

import msgspec

from services.scoring.domain.checkpoint import EVERY, Checkpoint, kept
from services.scoring.domain.classify import Occurrence
from services.scoring.domain.engine import Engine
from services.scoring.domain.fold import advance, apply, next_wake
from services.scoring.domain.move import Move
from services.scoring.domain.publication import Change, Circumstances, Published, publish
from services.scoring.domain.state import State


class Held(msgspec.Struct):
    """What is stored of a contact in a cycle. `stored_seq` counts the open moves, those by time after the fold too."""

    state: State
    stored_seq: int
    published: Published | None


class Outcome(msgspec.Struct, frozen=True):
    """What came of it: the fold, the moves after `base_seq`, when to look again, what to tell, what to keep."""

    base_seq: int
    held: Held
    moves: list[Move]
    due: int
    changes: list[Change]
    checkpoints: list[Checkpoint]


def progress(
    engine: Engine,
    held: Held,
    occurrences: Sequence[Occurrence],
    *,
    until: int,
    known: Circumstances,
    base: Move | None = None,
    tell: bool = True,
) -> Outcome:
    """Fold `occurrences` (in key order, all after the state's key) and make the flips due up to `until`.

    Changes `held.state`. `base` is the stored move with `state.seq`, needed only when moves by time are stored after it, or
    another version was published. Without `tell` (a shadow) nothing is published.
    """
    state = held.state
    base_seq = state.seq
    moves, checkpoints = _fold(engine, state, occurrences)
    told = held.published.through[0] if held.published else -1
    view = state
    if state.wake == 0:
        state.wake = next_wake(engine, state)
    if state.wake <= max(until, told):
        view = state.copy()
        advance(engine, view, max(until, told), moves)
    published: Published | None = None
    changes: list[Change] = []
    if tell:
        published = held.published
        if moves or base is not None or published is None or published.version != engine.version:
            published, changes = publish(engine, published, base, moves, known)
    return Outcome(base_seq, Held(state, view.seq, published), moves, view.wake, changes, checkpoints)


def _fold(engine: Engine, state: State, occurrences: Sequence[Occurrence]) -> tuple[list[Move], list[Checkpoint]]:
    """Fold, and keep the states on the way that are kept when the last one is folded."""
    moves: list[Move] = []
    checkpoints: list[Checkpoint] = []
    end = state.count + len(occurrences)
    marks = kept(end) if end // EVERY > state.count // EVERY else ()
    for occurrence in occurrences:
        apply(engine, state, occurrence, moves)
        if marks and state.count in marks:
            checkpoints.append(Checkpoint(state.count, state.key, state.encode()))
    return moves, checkpoints
