"""A scoring service for one contact without servers: what is held, what is stored, what was published.

It sends each touchpoint the way the product does (forward, or again from the first one), fires timers, and keeps the
rows as the database would, so that laws can be checked after any arrival.
"""

from services.scoring.domain.compiled_cycle import CompiledCycle
from services.scoring.domain.fold import advance, fold
from services.scoring.domain.fold_step import FoldResult, StoredFold, fold_and_publish
from services.scoring.domain.move import Move
from services.scoring.domain.publication import FoldContext, PlannedChange
from services.scoring.domain.signal_classifier import FoldEvent


class ContactSimulator:
    """One contact in one cycle."""

    def __init__(self, engine: CompiledCycle) -> None:
        self.engine = engine
        self.held = StoredFold(engine.initial_state(), 0, None)
        self.rows: dict[int, Move] = {}
        self.known: dict[tuple[int, str, str], FoldEvent] = {}
        self.published: list[PlannedChange] = []
        self.due = 0

    def arrive(self, occurrence: FoldEvent) -> None:
        """Take one touchpoint in; a repeat is dropped."""
        if occurrence.key in self.known:
            return
        self.known[occurrence.key] = occurrence
        fresh = frozenset({occurrence.key})
        state = self.held.state
        if not state.is_empty and occurrence.key <= state.key:
            again = StoredFold(
                self.engine.initial_state(), self.held.stored_seq, self.held.published
            )
            history = [self.known[key] for key in sorted(self.known)]
            self._take(
                fold_and_publish(
                    self.engine,
                    again,
                    history,
                    until=-1,
                    context=FoldContext(fresh=fresh, whole=True),
                )
            )
            return
        base = self.rows.get(state.seq)
        known = FoldContext(fresh=fresh)
        self._take(
            fold_and_publish(
                self.engine, self.held, [occurrence], until=-1, context=known, base=base
            )
        )

    def tick(self, frontier: int) -> None:
        """Fire the timer if it is due at the frontier."""
        if self.held.state.is_empty or self.due > frontier:
            return
        base = self.rows.get(self.held.state.seq)
        known = FoldContext(frontier=frontier)
        self._take(
            fold_and_publish(self.engine, self.held, [], until=frontier, context=known, base=base)
        )

    def _take(self, outcome: FoldResult) -> None:
        self.held = outcome.stored_fold
        self.due = outcome.due
        self.rows = {seq: m for seq, m in self.rows.items() if seq <= outcome.base_seq}
        self.rows |= {m.seq: m for m in outcome.moves}
        self.published += outcome.changes

    def pure(self, frontier: int) -> tuple[bytes, list[bytes]]:
        """Return the stored pure rows once every timer up to `frontier` has fired."""
        self.tick(frontier)
        return self.held.state.encode(), [self.rows[seq].encode() for seq in sorted(self.rows)]

    def fresh_fold(self, frontier: int) -> tuple[bytes, list[bytes]]:
        """Return the pure rows of one fold of everything, advanced to `frontier`."""
        state = self.engine.initial_state()
        moves = fold(self.engine, state, [self.known[key] for key in sorted(self.known)])
        raw = state.encode()
        advance(self.engine, state, frontier, moves)
        return raw, [m.encode() for m in moves]
