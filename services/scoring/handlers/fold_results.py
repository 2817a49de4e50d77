"""What one transaction's folds come to: the rows to write and the messages to send."""

from collections.abc import Sequence

import msgspec

from libs.common.decay import FOREVER
from libs.common.messages import Message
from libs.common.observability import metrics
from services.scoring.domain.compelling_event import TrackedEvent
from services.scoring.domain.compiled_cycle import CompiledCycle
from services.scoring.domain.fold_step import FoldResult, StoredFold
from services.scoring.domain.identity import Key
from services.scoring.domain.publication import FoldContext, PlannedChange
from services.scoring.domain.state_snapshot import SNAPSHOT_INTERVAL, retained_counts
from services.scoring.repository.fold_states import FoldKey, FoldRows, OpenMove
from services.scoring.repository.identity import LockedContact


class PendingChange(msgspec.Struct, frozen=True):
    """A change that is to be told; the subject is a contact or an account."""

    engine: CompiledCycle
    workspace: str
    subject: str
    change: PlannedChange


class CachedContact(msgspec.Struct):
    """A contact as cached: true only for `version`."""

    version: int
    folds: dict[str, StoredFold]
    due: dict[str, int | None]
    stored: set[str] = set()
    """The folds of which a state is stored."""


class FoldResults:
    """Gathers the rows of locked subjects, and what is to be told of them."""

    def __init__(self, locked: dict[str, LockedContact]) -> None:
        self.locked = locked
        self.entries: dict[str, CachedContact] = {}
        self.rows = FoldRows()
        self.messages: list[Message] = []
        self.changes: list[PendingChange] = []
        self.urgent: list[TrackedEvent] = []
        """Compelling events that signals raise."""
        self.traces: dict[Key, bytes] = {}
        """The W3C traceparent of each touchpoint that came with one."""
        self.told: set[str] = set()
        """Contacts whose snapshot has to be published."""

    def add_result(
        self,
        contact: str,
        engine: CompiledCycle,
        outcome: FoldResult,
        stored: Sequence[OpenMove],
        known: FoldContext,
    ) -> None:
        """Turn an outcome into rows and changes; stored moves that came out equal stay open."""
        place = (contact, engine.fold)
        if stored or outcome.moves:
            self._note_moves(place, outcome, stored, known)
        held = outcome.stored_fold
        entry = self.entries[contact]
        row = (contact, engine.fold, held.state.encode(), held.stored_seq)
        if engine.fold in entry.stored:
            self.rows.states.append(row)
        else:
            self.rows.new_states.append(row)
            entry.stored.add(engine.fold)
        if held.published is not None and held.published is not entry.folds[engine.fold].published:
            self.rows.add_publication((contact, engine.name), held.published)
        self._note_timer(place, outcome.due)
        entry.folds[engine.fold] = held
        workspace = self.locked[contact].workspace
        for change in outcome.changes:
            self.changes.append(PendingChange(engine, workspace, contact, change))
            metrics.STAGE_CHANGES.labels(direction=change.direction).inc()
            self.told.add(contact)

    def _note_moves(
        self, place: FoldKey, outcome: FoldResult, stored: Sequence[OpenMove], known: FoldContext
    ) -> None:
        tail = {m.move.seq: m.raw for m in stored if m.move.seq > outcome.base_seq}
        for move in outcome.moves:
            raw = move.encode()
            if tail.get(move.seq) == raw:
                del tail[move.seq]
                continue
            received_at = (
                None if move.timed else known.received.get((move.at, move.source, move.message_id))
            )
            self.rows.transitions.append((*place, move.seq, move.at, raw, received_at))
        self.rows.close.extend((*place, seq) for seq in tail)

    def clear_contact(
        self, contact: str, engine: CompiledCycle, stored: Sequence[OpenMove]
    ) -> None:
        """Leave nothing of a contact that no touchpoint is left of; what was published stays."""
        place, entry = (contact, engine.fold), self.entries[contact]
        self.rows.close.extend((*place, m.move.seq) for m in stored)
        self.rows.emptied.append(place)
        entry.stored.discard(engine.fold)
        if entry.due[engine.fold] is not None:
            self.rows.timers_gone.append(place)
            entry.due[engine.fold] = None
        entry.folds[engine.fold] = StoredFold(
            engine.initial_state(), 0, entry.folds[engine.fold].published
        )

    def add_snapshots(
        self, place: FoldKey, outcome: FoldResult, before: frozenset[int] | None, began: int
    ) -> None:
        """Write the checkpoints that were passed, and drop the stored ones that are not kept any more.

        `before` are the counts stored so far, where they are not those of `began` touchpoints.
        """
        if outcome.stored_fold.state.count // SNAPSHOT_INTERVAL != began // SNAPSHOT_INTERVAL:
            self.rows.checkpoints += [(*place, checkpoint) for checkpoint in outcome.snapshots]
            gone = (retained_counts(began) if before is None else before) - retained_counts(
                outcome.stored_fold.state.count
            )
            self.rows.drops += [(*place, count) for count in gone if count <= began]

    def _note_timer(self, place: FoldKey, due: int) -> None:
        """Write a timer only when it is earlier than the stored one: one that fires early just looks again."""
        entry = self.entries[place[0]]
        stored = entry.due[place[1]]
        if due < FOREVER and (stored is None or due < stored):
            self.rows.timers.append((*place, due))
            entry.due[place[1]] = due

    def clear_timers(self, contact: str) -> None:
        """Take the contact's stored timers as spent; what is due next is written anew."""
        entry = self.entries[contact]
        for name, due in entry.due.items():
            if due is not None:
                self.rows.timers_gone.append((contact, name))
                entry.due[name] = None
