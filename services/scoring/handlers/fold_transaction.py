"""Folding of the locked contacts (or accounts) of one transaction, forward or again from a key."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

import msgspec

from libs.common.db.connection import Connection
from libs.common.failpoints import hit
from libs.common.ids import ContactId
from libs.common.messages import Touchpoint
from libs.common.observability import logs, metrics
from services.scoring.domain import contact_profile
from services.scoring.domain.cycle import ActiveCycle
from services.scoring.domain.fold_state import FoldState
from services.scoring.domain.fold_step import StoredFold, fold_and_publish
from services.scoring.domain.identity import Key
from services.scoring.domain.publication import FoldContext
from services.scoring.domain.signal_classifier import FoldEvent
from services.scoring.domain.state_snapshot import StateSnapshot, retained_counts
from services.scoring.handlers.loaded_folds import LoadedFolds
from services.scoring.handlers.pending_writes import CachedContact
from services.scoring.repository import fold_states, state_snapshots, touchpoint_history
from services.scoring.repository.fold_rows import FoldKey, OpenMove
from services.scoring.repository.fold_states import RefoldRequest
from services.scoring.repository.identity import LockedContact
from services.scoring.repository.touchpoint_history import ContactHistory

log = logs.get_logger(__name__)
FOLDS_PER_YIELD = 250
"""Contacts folded before the event loop gets control, above all for Kafka's heartbeats."""
HistoryLoader = Callable[
    [Connection, Mapping[ContactId, Key | None]], Awaitable[dict[ContactId, ContactHistory]]
]
"""Reads the histories of subjects after their keys; None stands for the whole history."""


class RefoldPlan(msgspec.Struct):
    """Contacts to fold again: first keys, snapshots to start from, and touchpoints to fold."""

    start_keys: dict[ContactId, Key]
    snapshots: dict[FoldKey, StateSnapshot]
    lengths: dict[ContactId, int] = {}
    """{contact: stored touchpoints to fold again, the most over its folds}"""


class FoldTransaction(LoadedFolds):
    """The folds of one transaction's locked contacts; the caller writes rows and messages."""

    def __init__(
        self,
        cycles: Sequence[ActiveCycle],
        locked: dict[ContactId, LockedContact],
        cache: dict[ContactId, CachedContact],
        *,
        histories: HistoryLoader = touchpoint_history.get_histories,
    ) -> None:
        super().__init__(cycles, locked, cache)
        self._histories = histories

    async def fold_forward(
        self, connection: Connection, batch: dict[ContactId, list[Touchpoint]], until: int = -1
    ) -> None:
        """Fold new touchpoints onto the loaded states and make the moves by time up to `until`.

        The touchpoints of each contact are in key order, all after its last folded one. Reads open
        transitions where they are needed; writes nothing.
        """
        open_moves = await self._list_open_moves(connection, batch)
        received = {t.key: t.received_at for touchpoints in batch.values() for t in touchpoints}
        context = FoldContext(received, received.keys(), frontier=until, until=until)
        for number, (contact, touchpoints) in enumerate(batch.items()):
            if number % FOLDS_PER_YIELD == FOLDS_PER_YIELD - 1:
                await asyncio.sleep(0)
            self.bump_version(contact)
            for cycle in self._cycles_to_fold(contact):
                events = [cycle.classifier.to_fold_event(t) for t in touchpoints]
                fold = self.entries[contact].folds[cycle.engine.fold]
                stored_moves = open_moves.get(FoldKey(contact, cycle.engine.fold), ())
                self._fold(contact, cycle, fold, events, stored_moves, context)

    async def _list_open_moves(
        self, connection: Connection, contacts: Iterable[ContactId]
    ) -> dict[FoldKey, list[OpenMove]]:
        """Return the stored moves from `state.seq` on, for folds that need them.

        These are folds with moves by time stored after the state, and folds whose publication is
        not of this version.
        """
        first_seqs = {
            FoldKey(contact, cycle.engine.fold): fold.state.seq
            for contact in contacts
            for cycle in self.cycles
            if (fold := self.entries[contact].folds[cycle.engine.fold]).stored_seq > fold.state.seq
            or self._is_published_elsewhere(fold, cycle)
        }
        return await fold_states.list_open_moves(connection, first_seqs) if first_seqs else {}

    def _is_published_elsewhere(self, fold: StoredFold, cycle: ActiveCycle) -> bool:
        """Return whether a live, non-empty fold was last published by another version, or never."""
        if fold.published is not None and fold.published.version == cycle.engine.version:
            return False
        return cycle.live and not fold.state.is_empty

    async def plan_refold(
        self, connection: Connection, start_keys: dict[ContactId, Key]
    ) -> RefoldPlan:
        """Return the snapshots from which contacts are folded again, and the resulting lengths."""
        plan = RefoldPlan(start_keys, await state_snapshots.get_before(connection, start_keys))
        for contact in start_keys:
            for name, fold in self.entries[contact].folds.items():
                snapshot = plan.snapshots.get(FoldKey(contact, name))
                length = fold.state.count - (snapshot.count if snapshot else 0)
                plan.lengths[contact] = max(plan.lengths.get(contact, 0), length)
        return plan

    async def refold(
        self,
        connection: Connection,
        plan: RefoldPlan,
        contacts: Sequence[ContactId],
        contexts: dict[ContactId, FoldContext],
    ) -> None:
        """Fold contacts again from the plan's snapshots, with all touchpoints stored by now.

        Reads the histories and open transitions after the snapshots; writes nothing.
        """
        histories = await self._histories(
            connection, {c: self._first_needed_key(c, plan) for c in contacts}
        )
        snapshots = {
            FoldKey(c, cycle.engine.fold): plan.snapshots.get(FoldKey(c, cycle.engine.fold))
            for c in contacts
            for cycle in self.cycles
        }
        states = {fold_key: self._start(fold_key, s) for fold_key, s in snapshots.items()}
        open_moves = await fold_states.list_open_moves(
            connection, {fold_key: state.seq for fold_key, state in states.items()}
        )
        for contact in contacts:
            self.bump_version(contact)
            for cycle in self._cycles_to_fold(contact):
                fold_key = FoldKey(contact, cycle.engine.fold)
                before = self.entries[contact].folds[fold_key.fold]
                snapshot = snapshots[fold_key]
                fold = StoredFold(states[fold_key], before.stored_seq, before.published)
                events, received = histories[contact].to_fold_events(
                    cycle, snapshot.key if snapshot else None
                )
                context = msgspec.structs.replace(
                    contexts[contact], received=received, whole=snapshot is None
                )
                if context.reason == "corrected" and not before.state.is_empty:
                    # Touchpoints after the last folded one are new, so their moves correct nothing.
                    context = msgspec.structs.replace(context, folded_to=before.state.key)
                self.rows.snapshot_cuts.append((*fold_key, fold.state.count))
                self._fold(
                    contact,
                    cycle,
                    fold,
                    events,
                    open_moves[fold_key],
                    context,
                    retained_counts(before.state.count),
                )

    def _first_needed_key(self, contact: ContactId, plan: RefoldPlan) -> Key | None:
        """Return the earliest snapshot key over the contact's folds; None if a fold has none."""
        snapshots = [
            plan.snapshots.get(FoldKey(contact, cycle.engine.fold))
            for cycle in self._cycles_to_fold(contact)
        ]
        keys = [snapshot.key for snapshot in snapshots if snapshot is not None]
        return min(keys) if len(keys) == len(snapshots) else None

    def _start(self, fold_key: FoldKey, snapshot: StateSnapshot | None) -> FoldState:
        engine = next(c.engine for c in self.cycles if c.engine.fold == fold_key.fold)
        return engine.initial_state() if snapshot is None else engine.decode_state(snapshot.state)

    def _fold(
        self,
        contact: ContactId,
        cycle: ActiveCycle,
        fold: StoredFold,
        events: list[FoldEvent],
        stored_moves: Sequence[OpenMove],
        context: FoldContext,
        stored_counts: frozenset[int] | None = None,
    ) -> None:
        """Fold events onto `fold` and add the result; an error is recorded and logged.

        `stored_counts` are the counts of the stored snapshots, if `fold` starts at one of them.
        """
        engine = cycle.engine
        if fold.state.is_empty and not events:
            self.clear_contact(contact, engine, stored_moves)
            return
        count_before = fold.state.count
        if context.reason is None and self._is_published_elsewhere(
            self.entries[contact].folds[engine.fold], cycle
        ):
            context = msgspec.structs.replace(context, reason="cycle_published")
        base = (
            next((m.move for m in stored_moves if m.move.seq == fold.state.seq), None)
            if stored_moves
            else None
        )
        try:
            hit("in_fold")
            result = fold_and_publish(
                engine,
                fold,
                events,
                until=context.until,
                context=context,
                base=base,
                publish=cycle.live,
            )
        except Exception as error:  # noqa: BLE001
            log.error(  # noqa: TRY400
                "fold_error", contact_id=contact, cycle=engine.name, error=type(error).__name__
            )
            metrics.FOLD_ERRORS.labels(cycle=engine.name).inc()
            self.failed.append((contact, engine.fold, f"{type(error).__name__}: {error}"))
            self.retried[contact] = RefoldRequest(
                "fold_error", events[0].key if events else fold.state.key
            )
            return
        self.add_result(contact, engine, result, stored_moves, context)
        self.add_snapshots(FoldKey(contact, engine.fold), result, stored_counts, count_before)

    async def rebuild_profiles(self, connection: Connection, contacts: Iterable[ContactId]) -> None:
        """Rebuild the profiles of contacts that lost touchpoints to a contact or a correction."""
        for contact, touchpoints in (
            await touchpoint_history.list_trait_touchpoints(connection, contacts)
        ).items():
            self.profiles[contact] = {}
            for touchpoint in touchpoints:
                contact_profile.merge_traits(self.profiles[contact], touchpoint)
            if contact_profile.encode_profile(self.profiles[contact]) != (
                self.locked[contact].profile or "{}"
            ):
                self.contacts_to_publish.add(contact)
            self.bump_version(contact)

    async def store_fold_errors(self, connection: Connection) -> None:
        """Upsert the errors of failed folds and enqueue their contacts for another re-fold.

        The last good state stays, and the touchpoints are stored.
        """
        await fold_states.upsert_fold_errors(connection, self.failed)
        await fold_states.enqueue_refolds(connection, self.retried)
