"""Results of one transaction's folds: the rows to write and the messages to send."""

from collections.abc import Sequence

import msgspec

from libs.common.decay import FOREVER
from libs.common.ids import ContactId, WorkspaceId
from libs.common.messages import Message, Touchpoint
from libs.common.observability import metrics
from services.scoring.domain import contact_profile
from services.scoring.domain.compelling_event import TrackedEvent
from services.scoring.domain.compiled_cycle import CompiledCycle
from services.scoring.domain.fold_step import FoldResult, StoredFold
from services.scoring.domain.identity import Key
from services.scoring.domain.publication import FoldContext, PlannedChange
from services.scoring.domain.state_snapshot import SNAPSHOT_INTERVAL, retained_counts
from services.scoring.repository.fold_rows import FoldKey, FoldRows, OpenMove, PublicationKey
from services.scoring.repository.fold_states import RefoldRequest
from services.scoring.repository.identity import LockedContact


class PendingChange(msgspec.Struct, frozen=True):
    """A stage change to publish; the subject is a contact or an account."""

    engine: CompiledCycle
    workspace: WorkspaceId
    subject: ContactId
    change: PlannedChange


class CachedContact(msgspec.Struct):
    """A contact's folds as cached; valid only for the contact version `version`."""

    version: int
    folds: dict[str, StoredFold]
    due: dict[str, int | None]
    """{fold: stored timer}"""
    stored: set[str] = set()
    """The folds with a stored state."""


class PendingWrites:
    """Rows, messages and errors of the locked contacts (or accounts) of one transaction."""

    def __init__(self, locked: dict[ContactId, LockedContact]) -> None:
        self.locked = locked
        self.entries: dict[ContactId, CachedContact] = {}
        self.profiles: dict[ContactId, contact_profile.Profile] = {}
        self.rows = FoldRows()
        self.messages: list[Message] = []
        self.changes: list[PendingChange] = []
        self.compelling_events: list[TrackedEvent] = []
        """Events raised by signals."""
        self.traces: dict[Key, bytes] = {}
        """The W3C traceparent of each touchpoint that has one."""
        self.contacts_to_publish: set[ContactId] = set()
        """Contacts whose snapshot is published on `contacts`."""
        self.failed: list[tuple[ContactId, str, str]] = []
        """(contact id, fold, error) of folds that raised."""
        self.retried: dict[ContactId, RefoldRequest] = {}
        """Queue entries of the contacts in `failed`: the first key to fold again."""

    def add_result(
        self,
        contact: ContactId,
        engine: CompiledCycle,
        result: FoldResult,
        stored_moves: Sequence[OpenMove],
        context: FoldContext,
    ) -> None:
        """Turn a fold result into rows and changes; stored moves equal to new ones stay open."""
        fold_key = FoldKey(contact, engine.fold)
        if stored_moves or result.moves:
            self._add_moves(fold_key, result, stored_moves, context)
        fold = result.stored_fold
        entry = self.entries[contact]
        row = (contact, engine.fold, fold.state.encode(), fold.stored_seq)
        if engine.fold in entry.stored:
            self.rows.states.append(row)
        else:
            self.rows.new_states.append(row)
            entry.stored.add(engine.fold)
        if fold.published is not None and fold.published is not entry.folds[engine.fold].published:
            self.rows.add_publication(PublicationKey(contact, engine.name), fold.published)
        self._add_timer(fold_key, result.due)
        entry.folds[engine.fold] = fold
        workspace = self.locked[contact].workspace
        for change in result.changes:
            self.changes.append(PendingChange(engine, workspace, contact, change))
            metrics.STAGE_CHANGES.labels(direction=change.direction).inc()
            self.contacts_to_publish.add(contact)

    def _add_moves(
        self,
        fold_key: FoldKey,
        result: FoldResult,
        stored_moves: Sequence[OpenMove],
        context: FoldContext,
    ) -> None:
        outdated = {m.move.seq: m.raw for m in stored_moves if m.move.seq > result.base_seq}
        for move in result.moves:
            encoded = move.encode()
            if outdated.get(move.seq) == encoded:
                del outdated[move.seq]
                continue
            received_at = (
                None
                if move.timed
                else context.received.get((move.at, move.source, move.message_id))
            )
            self.rows.transitions.append((*fold_key, move.seq, move.at, encoded, received_at))
        self.rows.closed_moves.extend((*fold_key, seq) for seq in outdated)

    def clear_contact(
        self, contact: ContactId, engine: CompiledCycle, stored_moves: Sequence[OpenMove]
    ) -> None:
        """Delete the state and timer of a contact without touchpoints; its publication stays."""
        fold_key, entry = FoldKey(contact, engine.fold), self.entries[contact]
        self.rows.closed_moves.extend((*fold_key, m.move.seq) for m in stored_moves)
        self.rows.deleted_states.append(fold_key)
        entry.stored.discard(engine.fold)
        if entry.due[engine.fold] is not None:
            self.rows.deleted_timers.append(fold_key)
            entry.due[engine.fold] = None
        entry.folds[engine.fold] = StoredFold(
            engine.initial_state(), 0, entry.folds[engine.fold].published
        )

    def add_snapshots(
        self,
        fold_key: FoldKey,
        result: FoldResult,
        stored_counts: frozenset[int] | None,
        count_before: int,
    ) -> None:
        """Add the snapshots that the fold has passed; delete stored ones that are not retained.

        `stored_counts` are the counts of the stored snapshots; None stands for the ones retained
        at `count_before` touchpoints.
        """
        count = result.stored_fold.state.count
        if count // SNAPSHOT_INTERVAL != count_before // SNAPSHOT_INTERVAL:
            self.rows.snapshots += [(*fold_key, snapshot) for snapshot in result.snapshots]
            if stored_counts is None:
                stored_counts = retained_counts(count_before)
            superseded = stored_counts - retained_counts(count)
            self.rows.deleted_snapshots += [
                (*fold_key, old_count) for old_count in superseded if old_count <= count_before
            ]

    def _add_timer(self, fold_key: FoldKey, due: int) -> None:
        """Write a timer only if it is earlier than the stored one.

        A timer that fires early only computes the next instant again.
        """
        entry = self.entries[fold_key.subject]
        stored = entry.due[fold_key.fold]
        if due < FOREVER and (stored is None or due < stored):
            self.rows.timers.append((*fold_key, due))
            entry.due[fold_key.fold] = due

    def clear_timers(self, contact: ContactId) -> None:
        """Delete the contact's stored timers; the following fold writes the next ones."""
        entry = self.entries[contact]
        for fold, due in entry.due.items():
            if due is not None:
                self.rows.deleted_timers.append(FoldKey(contact, fold))
                entry.due[fold] = None

    def update_profile(self, contact: ContactId, touchpoints: Sequence[Touchpoint]) -> None:
        """Merge the traits of touchpoints into the contact's profile; the latest key wins."""
        identify_calls = [t for t in touchpoints if t.type == "identify" and t.traits]
        if not identify_calls:
            return
        if contact not in self.profiles:
            self.profiles[contact] = contact_profile.decode_profile(self.locked[contact].profile)
        if sum(contact_profile.merge_traits(self.profiles[contact], t) for t in identify_calls):
            self.contacts_to_publish.add(contact)
        self.bump_version(contact)

    def bump_version(self, contact: ContactId, *, identity: bool = False) -> None:
        """Raise the contact's version (and its `identity_version`), and write its loaded profile.

        A further call for the same contact raises neither a second time.
        """
        profile = self.profiles.get(contact)
        _, identity_bumped = self.rows.contacts.get(contact, (None, False))
        self.rows.contacts[contact] = (
            None if profile is None else contact_profile.encode_profile(profile),
            identity or identity_bumped,
        )
