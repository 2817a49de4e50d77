"""One fold step of one contact in one cycle: fold, advance a copy, plan the stage changes.

The stored state is the fold itself, never the advanced one; the copy is advanced as far as stage
changes are or were published.
"""

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
    """The stored fold of a contact in a cycle, and its last published position.

    `stored_seq` is the number of the last open move, moves by time after the fold's key included.
    """

    state: FoldState
    stored_seq: int
    published: PublishedPosition | None


class FoldResult(msgspec.Struct, frozen=True):
    """The result of one fold step.

    `moves` are those after move number `base_seq`; `due` is the instant (µs) of the next possible
    flip; `changes` are the stage changes to publish; `snapshots` the state snapshots to store.
    """

    base_seq: int
    stored_fold: StoredFold
    moves: list[Move]
    due: int
    changes: list[PlannedChange]
    snapshots: list[StateSnapshot]


def fold_and_publish(
    cycle: CompiledCycle,
    stored: StoredFold,
    events: Sequence[FoldEvent],
    *,
    until: int,
    context: FoldContext,
    base: Move | None = None,
    publish: bool = True,
) -> FoldResult:
    """Fold `events`, in key order and all after the state's key, and plan the stage changes.

    Flips by time are made up to `until` (µs UTC), or up to the last published one where that is
    later. `stored.state` is changed in place. `base` is the stored move number `state.seq`; it is
    needed only when moves by time are stored after it, or when the last published position is
    another version's. Without `publish` (a shadow) no change is planned.
    """
    state = stored.state
    base_seq = state.seq
    moves, snapshots = _fold(cycle, state, events)
    published_until = stored.published.through[0] if stored.published else -1
    advanced = state
    if state.next_flip == 0:
        state.next_flip = next_flip_at(cycle, state)
    if state.next_flip <= max(until, published_until):
        advanced = state.copy()
        advance(cycle, advanced, max(until, published_until), moves)
    published: PublishedPosition | None = None
    changes: list[PlannedChange] = []
    if publish:
        published = stored.published
        if moves or base is not None or published is None or published.version != cycle.version:
            published, changes = plan_changes(cycle, published, base, moves, context)
    return FoldResult(
        base_seq,
        StoredFold(state, advanced.seq, published),
        moves,
        advanced.next_flip,
        changes,
        snapshots,
    )


def _fold(
    cycle: CompiledCycle, state: FoldState, events: Sequence[FoldEvent]
) -> tuple[list[Move], list[StateSnapshot]]:
    """Fold the events; return the moves, and the snapshots still retained after the last event."""
    moves: list[Move] = []
    snapshots: list[StateSnapshot] = []
    end = state.count + len(events)
    retained = (
        retained_counts(end) if end // SNAPSHOT_INTERVAL > state.count // SNAPSHOT_INTERVAL else ()
    )
    for event in events:
        apply_event(cycle, state, event, moves)
        if retained and state.count in retained:
            snapshots.append(StateSnapshot(state.count, state.key, state.encode()))
    return moves, snapshots
