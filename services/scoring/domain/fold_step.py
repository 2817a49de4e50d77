"""One contact in one cycle, taken forward: fold, advance a copy as far as the world was told, publish."""

from collections.abc import Sequence

import msgspec

from services.scoring.domain.compiled_cycle import CompiledCycle
from services.scoring.domain.fold import advance, apply_event, next_flip_at
from services.scoring.domain.fold_state import FoldState
from services.scoring.domain.move import Move
from services.scoring.domain.publication import (
    FoldContext,
    PlannedChange,
    PublishedPosition,
    plan_changes,
)
from services.scoring.domain.signal_classifier import FoldEvent
from services.scoring.domain.state_snapshot import SNAPSHOT_INTERVAL, StateSnapshot, retained_counts


class StoredFold(msgspec.Struct):
    """What is stored of a contact in a cycle. `stored_seq` counts the open moves, those by time after the fold too."""

    state: FoldState
    stored_seq: int
    published: PublishedPosition | None


class FoldResult(msgspec.Struct, frozen=True):
    """What came of it: the fold, the moves after `base_seq`, when to look again, what to tell, what to keep."""

    base_seq: int
    stored_fold: StoredFold
    moves: list[Move]
    due: int
    changes: list[PlannedChange]
    checkpoints: list[StateSnapshot]


def fold_and_publish(
    engine: CompiledCycle,
    held: StoredFold,
    occurrences: Sequence[FoldEvent],
    *,
    until: int,
    known: FoldContext,
    base: Move | None = None,
    tell: bool = True,
) -> FoldResult:
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
        state.wake = next_flip_at(engine, state)
    if state.wake <= max(until, told):
        view = state.copy()
        advance(engine, view, max(until, told), moves)
    published: PublishedPosition | None = None
    changes: list[PlannedChange] = []
    if tell:
        published = held.published
        if moves or base is not None or published is None or published.version != engine.version:
            published, changes = plan_changes(engine, published, base, moves, known)
    return FoldResult(
        base_seq, StoredFold(state, view.seq, published), moves, view.wake, changes, checkpoints
    )


def _fold(
    engine: CompiledCycle, state: FoldState, occurrences: Sequence[FoldEvent]
) -> tuple[list[Move], list[StateSnapshot]]:
    """Fold, and keep the states on the way that are kept when the last one is folded."""
    moves: list[Move] = []
    checkpoints: list[StateSnapshot] = []
    end = state.count + len(occurrences)
    marks = (
        retained_counts(end) if end // SNAPSHOT_INTERVAL > state.count // SNAPSHOT_INTERVAL else ()
    )
    for occurrence in occurrences:
        apply_event(engine, state, occurrence, moves)
        if marks and state.count in marks:
            checkpoints.append(StateSnapshot(state.count, state.key, state.encode()))
    return moves, checkpoints
