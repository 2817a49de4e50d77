"""Publication: from the last published position to the stage changes to publish next.

`publication` stores the last published position and `through`, the key of the last move covered by
it. After any fold:

(a) if the pure position at `through` differs from the published one, one net change corrects it;
(b) then every move after `through` is published, in order.

So `sequence` has no gap, each change starts where the last one ended, and the last one ends in the
pure state, whether touchpoints were late, excluded or moved to another contact.
"""

from collections.abc import Set as AbstractSet

import msgspec

from libs.common.messages.stage_change import Direction, Reason
from services.scoring.domain.compiled_cycle import CompiledCycle
from services.scoring.domain.correction import SOURCE
from services.scoring.domain.move import Move, Position

MoveKey = tuple[int, bool, str, str]
"""`Move.key`: (instant in µs, not timed, source, message_id)."""


class PublishedPosition(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The last published position of one contact in one cycle."""

    sequence: int
    through: MoveKey
    position: Position
    version: str = ""
    """The cycle version under which it was published."""


class PlannedChange(msgspec.Struct, frozen=True):
    """One stage change to publish.

    `move` is its cause. A net change may cover several moves, so its `before` can differ from the
    move's.
    """

    sequence: int
    before: Position | None
    after: Position
    direction: Direction
    reason: Reason
    move: Move


class FoldContext(msgspec.Struct, frozen=True):
    """Circumstances of a fold that decide the reasons of its stage changes, never its result.

    - `received`: the time of receipt (µs) of the touchpoints folded now, by key
    - `fresh`: the keys folded for the first time; with `folded_to`, also every key after it
    - `history`: the key of the last historical touchpoint, when the contact's history is folded
    - `frontier`: the instant up to which timers may fire; `until`: the one up to which this fold
      makes flips by time
    - `reason`: the reason of a re-fold of touchpoints folded before (a merge, a new cycle version)
    - `whole`: the fold starts from the first touchpoint, so its moves are all there are
    """

    received: dict[tuple[int, str, str], int] = {}
    fresh: AbstractSet[tuple[int, str, str]] = frozenset()
    history: tuple[int, str, str] | None = None
    frontier: int = 0
    reason: Reason | None = None
    whole: bool = False
    until: int = -1
    folded_to: tuple[int, str, str] | None = None

    def is_fresh(self, key: tuple[int, str, str]) -> bool:
        """Return whether the touchpoint at `key` is folded for the first time."""
        return key in self.fresh or (self.folded_to is not None and key > self.folded_to)


def plan_changes(
    cycle: CompiledCycle,
    last: PublishedPosition | None,
    base: Move | None,
    moves: list[Move],
    context: FoldContext,
) -> tuple[PublishedPosition | None, list[PlannedChange]]:
    """Return the new published position and the changes that lead to it.

    `moves` are the pure moves from some key on; `base` is the move before them, where the caller
    knows it. Without a base the pure position before `moves` is the published one.
    """
    published_count = sum(1 for move in moves if last is not None and move.key <= last.through)
    net_count = published_count + _count_history(cycle, moves[published_count:], context)
    net_moves = moves[:net_count]
    if net_count == 0:
        if base is not None and (last is None or base.after != last.position):
            # A published flip by time was withdrawn, or this cycle has published nothing so far.
            net_moves = [base]
        elif last is not None and context.whole and moves:
            # The touchpoint of the first published move is gone: correct to the first move now.
            net_moves, net_count = moves[:1], 1
    changes: list[PlannedChange] = []
    published = last
    if net_moves:
        published = _plan_net_change(cycle, last, net_moves, context, changes)
    for move in moves[net_count:]:
        before = published.position if published else None
        published = PublishedPosition(
            (published.sequence if published else 0) + 1, move.key, move.after, cycle.version
        )
        changes.append(_change(cycle, published, before, move, _reason(cycle, move, context)))
    if published is not None and published.version != cycle.version:
        published = msgspec.structs.replace(published, version=cycle.version)
    return published, changes


def _count_history(cycle: CompiledCycle, moves: list[Move], context: FoldContext) -> int:
    """Return how many of the first moves are history.

    These are the moves up to the last historical touchpoint, and the flips by time after it that
    are older than the reaction window at the frontier.
    """
    if context.history is None:
        return 0
    at, source, message_id = context.history
    old = context.frontier - cycle.spec.reaction_window
    count = 0
    for move in moves:
        if move.key > (at, True, source, message_id) and not (move.timed and move.at < old):
            break
        count += 1
    return count


def _plan_net_change(
    cycle: CompiledCycle,
    last: PublishedPosition | None,
    moves: list[Move],
    context: FoldContext,
    changes: list[PlannedChange],
) -> PublishedPosition:
    """Cover `moves` by at most one change, none when they end in the published position.

    Its cause is the move that entered the engagement stage in which the moves end.
    """
    end = moves[-1]
    before = last.position if last else None
    key = max(end.key, last.through) if last else end.key
    if before == end.after:
        assert last is not None
        return PublishedPosition(last.sequence, key, end.after, cycle.version)
    cause = next(
        (m for m in reversed(moves) if m.before is None or m.before.stage != m.after.stage), end
    )
    published = PublishedPosition((last.sequence if last else 0) + 1, key, end.after, cycle.version)
    reason: Reason = (
        "history" if context.history is not None else _net_reason(cycle, cause, context)
    )
    changes.append(_change(cycle, published, before, cause, reason))
    return published


def _change(
    cycle: CompiledCycle,
    published: PublishedPosition,
    before: Position | None,
    move: Move,
    reason: Reason,
) -> PlannedChange:
    after = published.position
    return PlannedChange(
        published.sequence, before, after, change_direction(cycle, before, after), reason, move
    )


def _reason(cycle: CompiledCycle, move: Move, context: FoldContext) -> Reason:
    """Return the reason of a move published by itself.

    Ordinary (`time`, `touchpoint`), unless it is a correction, a re-fold, or a touchpoint received
    later than the reaction window allows. Arrival out of order makes no difference.
    """
    if move.timed:
        return "time"
    key = (move.at, move.source, move.message_id)
    if move.source == SOURCE:
        return "corrected"
    if context.reason is not None and not context.is_fresh(key):
        return context.reason
    received = context.received.get(key)
    late = received is not None and received - move.at > cycle.spec.reaction_window
    return "late_touchpoint" if late else "touchpoint"


def _net_reason(cycle: CompiledCycle, cause: Move, context: FoldContext) -> Reason:
    """Return the reason of a net change.

    The re-fold's reason, else that of a cause folded for the first time, else `corrected`.
    """
    if context.reason is not None:
        return context.reason
    if not cause.timed and (cause.at, cause.source, cause.message_id) in context.fresh:
        return _reason(cycle, cause, context)
    return "corrected"


def change_direction(cycle: CompiledCycle, before: Position | None, after: Position) -> Direction:
    """Return the direction of a change.

    Entry, re-entry, dormancy and repeat take precedence over the distance between the rings.
    """
    if before is None:
        return "entry"
    if before.dormant and not after.dormant:
        return "re_entry"
    if after.dormant and not before.dormant:
        return "dormancy"
    if before.instance != after.instance:
        return "repeat"
    ring = cycle.ring_of.get(before.stage)  # None: a stage of an earlier version
    return "lateral" if ring is None else direction_by_distance(cycle.ring_of[after.stage] - ring)


def direction_by_distance(inward: int) -> Direction:
    """Return the direction of a move by `inward` rings or axis stages; negative is outward."""
    if inward == 0:
        return "lateral"
    return "regression" if inward < 0 else "advance" if inward == 1 else "skip"
