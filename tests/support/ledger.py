"""A scoring service for one contact without servers: what is held, what is stored, what was published.

It sends each touchpoint the way the product does (forward, or again from the first one), fires timers, and keeps the
rows as the database would, so that laws can be checked after any arrival.
"""

from services.scoring.domain.classify import Occurrence
from services.scoring.domain.engine import Engine
from services.scoring.domain.fold import advance, fold
from services.scoring.domain.move import Move
from services.scoring.domain.progress import Held, Outcome, progress
from services.scoring.domain.publication import Change, Circumstances


class Ledger:
    """One contact in one cycle."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.held = Held(engine.fresh(), 0, None)
        self.rows: dict[int, Move] = {}
        self.known: dict[tuple[int, str, str], Occurrence] = {}
        self.published: list[Change] = []
        self.due = 0

    def arrive(self, occurrence: Occurrence) -> None:
        """Take one touchpoint in; a repeat is dropped."""
        if occurrence.key in self.known:
            return
        self.known[occurrence.key] = occurrence
        fresh = frozenset({occurrence.key})
        state = self.held.state
        if not state.is_empty and occurrence.key <= state.key:
            again = Held(self.engine.fresh(), self.held.stored_seq, self.held.published)
            history = [self.known[key] for key in sorted(self.known)]
            self._take(progress(self.engine, again, history, until=-1, known=Circumstances(fresh=fresh, whole=True)))
            return
        base = self.rows.get(state.seq)
        known = Circumstances(fresh=fresh)
        self._take(progress(self.engine, self.held, [occurrence], until=-1, known=known, base=base))

    def tick(self, frontier: int) -> None:
        """Fire the timer if it is due at the frontier."""
        if self.held.state.is_empty or self.due > frontier:
            return
        base = self.rows.get(self.held.state.seq)
        known = Circumstances(frontier=frontier)
        self._take(progress(self.engine, self.held, [], until=frontier, known=known, base=base))

    def _take(self, outcome: Outcome) -> None:
        self.held = outcome.held
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
        state = self.engine.fresh()
        moves = fold(self.engine, state, [self.known[key] for key in sorted(self.known)])
        raw = state.encode()
        advance(self.engine, state, frontier, moves)
        return raw, [m.encode() for m in moves]
