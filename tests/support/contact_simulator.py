"""Scoring of one contact without servers: its stored fold, its rows and its published changes.

Touchpoints are folded forward or from the first one, as the product does; timers fire; the rows
are kept as the database would, so that invariants can be checked after any order of arrival.
"""

from services.scoring.domain.compiled_cycle import CompiledCycle
from services.scoring.domain.fold import advance, fold
from services.scoring.domain.fold_step import FoldResult, StoredFold, fold_and_publish
from services.scoring.domain.move import Move
from services.scoring.domain.publication import FoldContext, PlannedChange
from services.scoring.domain.signal_classifier import FoldEvent


class ContactSimulator:
    """Stored fold, rows and published changes of one contact in one cycle."""

    def __init__(self, engine: CompiledCycle) -> None:
        self.engine = engine
        self.stored = StoredFold(engine.initial_state(), 0, None)
        self.rows: dict[int, Move] = {}
        self.events: dict[tuple[int, str, str], FoldEvent] = {}
        self.published: list[PlannedChange] = []
        self.due = 0

    def arrive(self, occurrence: FoldEvent) -> None:
        """Fold one touchpoint; ignore a duplicate."""
        if occurrence.key in self.events:
            return
        self.events[occurrence.key] = occurrence
        fresh = frozenset({occurrence.key})
        state = self.stored.state
        if not state.is_empty and occurrence.key <= state.key:
            empty_fold = StoredFold(
                self.engine.initial_state(), self.stored.stored_seq, self.stored.published
            )
            history = [self.events[key] for key in sorted(self.events)]
            self._take(
                fold_and_publish(
                    self.engine,
                    empty_fold,
                    history,
                    until=-1,
                    context=FoldContext(fresh=fresh, whole=True),
                )
            )
            return
        base = self.rows.get(state.seq)
        context = FoldContext(fresh=fresh)
        self._take(
            fold_and_publish(
                self.engine, self.stored, [occurrence], until=-1, context=context, base=base
            )
        )

    def tick(self, frontier: int) -> None:
        """Fire the timer if it is due at the frontier."""
        if self.stored.state.is_empty or self.due > frontier:
            return
        base = self.rows.get(self.stored.state.seq)
        context = FoldContext(frontier=frontier)
        self._take(
            fold_and_publish(
                self.engine, self.stored, [], until=frontier, context=context, base=base
            )
        )

    def _take(self, outcome: FoldResult) -> None:
        self.stored = outcome.stored_fold
        self.due = outcome.due
        self.rows = {seq: m for seq, m in self.rows.items() if seq <= outcome.base_seq}
        self.rows |= {m.seq: m for m in outcome.moves}
        self.published += outcome.changes

    def pure(self, frontier: int) -> tuple[bytes, list[bytes]]:
        """Return the stored pure rows once every timer up to `frontier` has fired."""
        self.tick(frontier)
        return self.stored.state.encode(), [self.rows[seq].encode() for seq in sorted(self.rows)]

    def fresh_fold(self, frontier: int) -> tuple[bytes, list[bytes]]:
        """Return the pure rows of one fold of all events, advanced to `frontier`."""
        state = self.engine.initial_state()
        moves = fold(self.engine, state, [self.events[key] for key in sorted(self.events)])
        raw = state.encode()
        advance(self.engine, state, frontier, moves)
        return raw, [m.encode() for m in moves]
