"""What was told to the world, and what is told next.

`publication` keeps the last published position and `through`, the key of moves up to which it was published. After any
fold: (a) if the pure position at `through` is not the published one, one net change; (b) then every move after
`through`, in order. So `sequence` has no gap, each change starts where the last one ended, and the last equals the pure
state, whatever was late, taken back or moved to another contact.
"""

from collections.abc import Set as AbstractSet

import msgspec

from libs.common.messages.stage_change import Direction, Reason
from services.scoring.domain.compiled_cycle import CompiledCycle
from services.scoring.domain.correction import SOURCE
from services.scoring.domain.move import Move, Position

Key = tuple[int, bool, str, str]


class PublishedPosition(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The last published position of one contact in one cycle."""

    sequence: int
    through: Key
    position: Position
    version: str = ""
    """The cycle version that it was told under."""


class PlannedChange(msgspec.Struct, frozen=True):
    """One stage change to publish. `move` is its cause; a net change starts elsewhere than its move does."""

    sequence: int
    before: Position | None
    after: Position
    direction: Direction
    reason: Reason
    move: Move


class FoldContext(msgspec.Struct, frozen=True):
    """What is known about this fold beside the data.

    `received` has the time of receipt of the touchpoints that are folded now, by key; `fresh` those folded for the first
    time. `history` is the key of the last historical touchpoint when the contact's history was folded; `frontier` is
    the instant up to which timers may fire, `until` the one up to which this fold makes them; `because` is why
    touchpoints folded before are folded again (a merge, another cycle). Where `folded_to` is known, what is after it is
    fresh as well.
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
    engine: CompiledCycle,
    last: PublishedPosition | None,
    base: Move | None,
    moves: list[Move],
    known: FoldContext,
) -> tuple[PublishedPosition | None, list[PlannedChange]]:
    """Return the new publication and the changes that lead to it.

    `moves` are the pure moves from some point on, `base` the one before them where it is known to the caller; when
    `known.whole`, they are all there are. Without a base the pure position before `moves` is the published one.
    """
    told = sum(1 for move in moves if last is not None and move.key <= last.through)
    net = told + _history(engine, moves[told:], known)
    before = moves[:net]
    if net == 0:
        if base is not None and (last is None or base.after != last.position):
            before = [
                base
            ]  # a published flip by time was taken back, or nothing was told under this cycle yet
        elif last is not None and known.whole and moves:
            before, net = (
                moves[:1],
                1,
            )  # the first touchpoint moved away: on to the first move that is left
    changes: list[PlannedChange] = []
    published = last
    if before:
        published = _net(engine, last, before, known, changes, history=known.history is not None)
    for move in moves[net:]:
        start = published.position if published else None
        published = PublishedPosition(
            (published.sequence if published else 0) + 1, move.key, move.after, engine.version
        )
        changes.append(_change(engine, published, start, move, _reason(engine, move, known)))
    if published is not None and published.version != engine.version:
        published = msgspec.structs.replace(published, version=engine.version)
    return published, changes


def _history(engine: CompiledCycle, moves: list[Move], known: FoldContext) -> int:
    """Return how many of `moves` are history: up to the last historical touchpoint, and old flips by time after it."""
    if known.history is None:
        return 0
    at, source, message_id = known.history
    old = known.frontier - engine.spec.reaction_window
    count = 0
    for move in moves:
        if move.key > (at, True, source, message_id) and not (move.timed and move.at < old):
            break
        count += 1
    return count


def _net(
    engine: CompiledCycle,
    last: PublishedPosition | None,
    moves: list[Move],
    known: FoldContext,
    changes: list[PlannedChange],
    *,
    history: bool,
) -> PublishedPosition:
    """Go to where `moves` end in one change, if that is not where we stand already."""
    end = moves[-1]
    before = last.position if last else None
    key = max(end.key, last.through) if last else end.key
    if before == end.after:
        assert last is not None
        return PublishedPosition(last.sequence, key, end.after, engine.version)
    cause = next(
        (m for m in reversed(moves) if m.before is None or m.before.stage != m.after.stage), end
    )
    published = PublishedPosition(
        (last.sequence if last else 0) + 1, key, end.after, engine.version
    )
    reason: Reason = "history" if history else _net_reason(engine, cause, known)
    changes.append(_change(engine, published, before, cause, reason))
    return published


def _change(
    engine: CompiledCycle,
    published: PublishedPosition,
    before: Position | None,
    move: Move,
    reason: Reason,
) -> PlannedChange:
    after = published.position
    return PlannedChange(
        published.sequence, before, after, change_direction(engine, before, after), reason, move
    )


def _reason(engine: CompiledCycle, move: Move, known: FoldContext) -> Reason:
    """Return the reason of a move told as it is: ordinary unless its touchpoint came beyond the reaction window."""
    if move.timed:
        return "time"
    key = (move.at, move.source, move.message_id)
    if move.source == SOURCE:
        return "corrected"
    if known.reason is not None and not known.is_fresh(key):
        return known.reason
    received = known.received.get(key)
    late = received is not None and received - move.at > engine.spec.reaction_window
    return "late_touchpoint" if late else "touchpoint"


def _net_reason(engine: CompiledCycle, cause: Move, known: FoldContext) -> Reason:
    """A net change has its cause's reason if that touchpoint is folded for the first time; else it corrects."""
    if known.reason is not None:
        return known.reason
    if not cause.timed and (cause.at, cause.source, cause.message_id) in known.fresh:
        return _reason(engine, cause, known)
    return "corrected"


def change_direction(engine: CompiledCycle, before: Position | None, after: Position) -> Direction:
    """Return the direction of a change; entry, re-entry, dormancy and repeat win over the rings."""
    if before is None:
        return "entry"
    if before.dormant and not after.dormant:
        return "re_entry"
    if after.dormant and not before.dormant:
        return "dormancy"
    if before.instance != after.instance:
        return "repeat"
    ring = engine.ring_of.get(before.stage)  # none: a stage that an earlier version had
    return "lateral" if ring is None else direction_by_distance(engine.ring_of[after.stage] - ring)


def direction_by_distance(inward: int) -> Direction:
    """Return the plain direction of going `inward` rings or places (negative is outward)."""
    if inward == 0:
        return "lateral"
    return "regression" if inward < 0 else "advance" if inward == 1 else "skip"
