"""A batch of touchpoints in one fenced transaction, as `libs.common.kafka.consumer` requires.

The transaction, in order: the offset fence; the shared lock on cycle versions; identifiers and
contacts are locked and touchpoints stored (`touchpoint_storage`); stored folds are read and folded.
Then follow the writes: re-fold queue, memberships, account queue, contacts, states, transitions,
publications, timers, snapshots, fold errors, compelling events, touchpoints of markets and
accounts, and the outbox.
"""

import time
from collections import OrderedDict
from collections.abc import Sequence

from libs.common.db import offsets
from libs.common.db.connection import Connection, Session, SessionPool
from libs.common.db.outbox import Outbox
from libs.common.db.unit_of_work import unit_of_work
from libs.common.failpoints import hit
from libs.common.ids import ContactId
from libs.common.kafka.dead_letters import build_dead_letter
from libs.common.kafka.record import Record, offset_ranges
from libs.common.messages import Message, Touchpoint
from libs.common.observability import metrics
from libs.common.observability.tracing import start_span
from services.scoring.domain import compelling_triggers, outgoing_messages
from services.scoring.domain.identity import Key
from services.scoring.domain.publication import FoldContext
from services.scoring.handlers.account_memberships import write_memberships
from services.scoring.handlers.contact_messages import raise_events_and_build_messages
from services.scoring.handlers.contact_reservations import BatchReservation, ContactReservations
from services.scoring.handlers.cycle_registry import CycleRegistry
from services.scoring.handlers.fold_transaction import FoldTransaction
from services.scoring.handlers.identity_change_effects import refold_starts
from services.scoring.handlers.pending_writes import CachedContact
from services.scoring.handlers.touchpoint_decoding import decode_records
from services.scoring.handlers.touchpoint_storage import StoredBatch, store_batch
from services.scoring.repository import fold_states, market_touchpoints
from services.scoring.repository.fold_states import RefoldRequest
from services.scoring.repository.touchpoints import StoredTouchpoint

GROUP = "scoring"
_SPAN_ATTRIBUTES = {
    "messaging.system": "kafka",
    "messaging.destination.name": "touchpoints",
    "messaging.operation.type": "process",
}
MAX_INLINE_REFOLD = 1_000
"""Touchpoints; a contact with more to fold again goes to the re-fold queue."""
MAX_INLINE_BATCH = 20_000
"""Touchpoints that one batch folds again; contacts beyond it go to the re-fold queue."""


class ContactCache(OrderedDict[ContactId, CachedContact]):
    """LRU cache of contacts' folds; an entry is valid only for the contact version in it.

    An OrderedDict, since popping the first entry of a plain dict scans all deleted ones.
    """

    def __init__(self, limit: int = 100_000) -> None:
        super().__init__()
        self.limit = limit

    def __setitem__(self, contact: ContactId, entry: CachedContact) -> None:
        """Insert an entry as the newest and evict the oldest beyond the limit."""
        super().__setitem__(contact, entry)
        while len(self) > self.limit:
            self.popitem(last=False)


class TouchpointBatchHandler:
    """Stores touchpoints under their contacts, folds them and enqueues the resulting messages."""

    def __init__(
        self,
        sessions: Sequence[Session],
        outbox: Outbox,
        registry: CycleRegistry,
        cache: dict[ContactId, CachedContact],
    ) -> None:
        """Use one session per batch that is handled concurrently."""
        self._sessions = SessionPool(sessions)
        self._outbox = outbox
        self._registry = registry
        self._cache = cache
        self._reservations = ContactReservations()

    async def next_offset(self, topic: str, partition: int, beginning: int) -> int:
        """Return the offset of record, inserted as `beginning` if there is none."""
        async with self._sessions.acquire() as connection:
            return await offsets.upsert_next_offset(
                connection, "scoring", GROUP, (topic, partition), beginning
            )

    async def handle(self, records: Sequence[Record]) -> int:
        """Process a batch; return the number of dead letters."""
        started = time.monotonic()
        decoded, dead_letters = await decode_records(records)
        batch = [stored for stored in decoded if stored.touchpoint.scope == "contact"]
        market_batch = [stored for stored in decoded if stored.touchpoint.scope != "contact"]
        traces = [stored.trace for stored in batch if stored.trace is not None]
        async with self._sessions.acquire() as connection:
            with (
                start_span("process touchpoints", "CONSUMER", None, _SPAN_ATTRIBUTES, traces),
                self._reservations.batch() as reservation,
            ):
                folds, stored_batch, market_count = await self._commit(
                    connection, records, batch, market_batch, dead_letters, reservation
                )
            if folds:
                folds.update_cache()
        fresh = len(stored_batch.fresh) if stored_batch else 0
        repeated = stored_batch.repeated if stored_batch else 0
        metrics.TOUCHPOINTS_STORED.inc(market_count + fresh)
        metrics.TOUCHPOINTS_REPEATED.inc(len(market_batch) - market_count + repeated)
        metrics.BATCH_SECONDS.labels(service="scoring").observe(time.monotonic() - started)
        return len(dead_letters)

    async def _commit(
        self,
        connection: Connection,
        records: Sequence[Record],
        batch: list[StoredTouchpoint],
        market_batch: list[StoredTouchpoint],
        dead_letters: list[Message],
        reservation: BatchReservation,
    ) -> tuple[FoldTransaction | None, StoredBatch | None, int]:
        async with unit_of_work(connection):
            await self._fence(connection, records)
            folds, stored_batch = (
                await self._process(connection, batch, reservation) if batch else (None, None)
            )
            market_count = await market_touchpoints.insert_touchpoints(connection, market_batch)
            await self._outbox.insert_messages(
                connection, [*(folds.messages if folds else []), *dead_letters]
            )
        return folds, stored_batch, market_count

    async def store_dead_letter(self, record: Record, error: Exception) -> None:
        """Store one record that cannot be processed as a dead letter, behind its fence."""
        async with self._sessions.acquire() as connection, unit_of_work(connection):
            await self._fence(connection, [record])
            await self._outbox.insert_messages(
                connection, [build_dead_letter("scoring", record, error)]
            )

    async def _fence(self, connection: Connection, records: Sequence[Record]) -> None:
        hit("before_fence")
        await offsets.update_offsets(connection, "scoring", GROUP, offset_ranges(records))
        hit("after_fence")

    async def _process(
        self, connection: Connection, batch: list[StoredTouchpoint], reservation: BatchReservation
    ) -> tuple[FoldTransaction, StoredBatch]:
        """Store and fold a batch, and write all rows but the outbox."""
        active_cycles = await self._registry.lock_active_cycles(connection)
        cycles = [cycle for cycle in active_cycles if not cycle.is_account_cycle]
        stored_batch = await store_batch(connection, batch, reservation)
        folds = FoldTransaction(cycles, stored_batch.locked, self._cache)
        folds.traces = {
            stored.touchpoint.key: stored.trace for stored in batch if stored.trace is not None
        }
        self._add_signals(folds, stored_batch)
        start_keys = await refold_starts(
            connection, stored_batch.moved, stored_batch.resolved_contacts
        )
        await self._fold(connection, folds, stored_batch, start_keys)
        await write_memberships(
            connection, stored_batch, start_keys, folded=len(cycles) < len(active_cycles)
        )
        for contact in stored_batch.identity_changed:
            folds.bump_version(contact, identity=True)
            is_merged = stored_batch.locked[contact].merged_into is not None
            if contact not in stored_batch.merged and not is_merged:
                folds.contacts_to_publish.add(contact)
        await fold_states.upsert_rows(connection, folds.rows)
        await folds.store_fold_errors(connection)
        folds.messages += await raise_events_and_build_messages(
            connection, cycles, folds.contacts_to_publish, stored_batch.merged, folds
        )
        return folds, stored_batch

    def _add_signals(self, folds: FoldTransaction, stored_batch: StoredBatch) -> None:
        """Add the published signals of fresh touchpoints and the compelling events they raise."""
        for touchpoint, contact in zip(stored_batch.fresh, stored_batch.owners, strict=True):
            for cycle in folds.cycles:
                signals = cycle.classifier.published_signals(touchpoint) if cycle.live else ()
                if signals:
                    trace = folds.traces.get(touchpoint.key)
                    folds.messages += outgoing_messages.signal_messages(
                        cycle.engine, contact, touchpoint, signals, trace
                    )
                    folds.compelling_events += compelling_triggers.events_from_signals(
                        cycle.engine, contact, touchpoint, signals
                    )

    async def _fold(
        self,
        connection: Connection,
        folds: FoldTransaction,
        stored_batch: StoredBatch,
        start_keys: dict[ContactId, Key],
    ) -> None:
        """Fold each contact forward or again from a snapshot, or put it in the re-fold queue.

        `start_keys` has the first key to fold again of each contact with moved touchpoints.
        """
        new: dict[ContactId, list[Touchpoint]] = {}
        for touchpoint, contact in zip(stored_batch.fresh, stored_batch.owners, strict=True):
            new.setdefault(contact, []).append(touchpoint)
        for touchpoints in new.values():
            touchpoints.sort(key=_key)
        moved = {c: key for c, key in start_keys.items() if c not in stored_batch.merged}
        queued = _requests_for_queue(new, moved, stored_batch)
        unmoved = {c: ts for c, ts in new.items() if c not in queued and c not in moved}
        await folds.load(connection, [*unmoved, *(moved.keys() - queued.keys())])
        refold_keys = {c: key for c, key in moved.items() if c not in queued}
        refold_keys |= {c: ts[0].key for c, ts in unmoved.items() if folds.is_late(c, ts[0].key)}
        for contact in refold_keys.keys() & moved.keys() & new.keys():
            refold_keys[contact] = min(refold_keys[contact], new[contact][0].key)
        await folds.fold_forward(
            connection, {c: ts for c, ts in unmoved.items() if c not in refold_keys}
        )
        if refold_keys:
            queued |= await self._refold(connection, folds, refold_keys, new, moved)
        rebuilt = moved.keys() - queued.keys()
        await folds.rebuild_profiles(connection, rebuilt)
        for contact, touchpoints in new.items():
            if contact not in rebuilt:
                folds.update_profile(contact, touchpoints)
        for contact in queued:
            folds.bump_version(contact)
        await fold_states.enqueue_refolds(connection, queued)

    async def _refold(
        self,
        connection: Connection,
        folds: FoldTransaction,
        refold_keys: dict[ContactId, Key],
        new: dict[ContactId, list[Touchpoint]],
        moved: dict[ContactId, Key],
    ) -> dict[ContactId, RefoldRequest]:
        """Fold contacts again from a key; return the ones beyond the limits, for the queue."""
        plan = await folds.plan_refold(connection, refold_keys)
        inline: list[ContactId] = []
        total = 0
        for contact in sorted(refold_keys):
            length = plan.lengths.get(contact, 0) + len(new.get(contact, ()))
            if length <= MAX_INLINE_REFOLD and total <= MAX_INLINE_BATCH:
                total += length
                inline.append(contact)
        contexts = {
            c: FoldContext(
                fresh=frozenset(t.key for t in new.get(c, ())),
                reason="identity_merge" if c in moved else None,
            )
            for c in inline
        }
        await folds.refold(connection, plan, inline, contexts)
        return {
            c: RefoldRequest(
                "identity_merge" if c in moved else "late", key, rebuild_profile=c in moved
            )
            for c, key in refold_keys.items()
            if c not in contexts
        }


def _requests_for_queue(
    new: dict[ContactId, list[Touchpoint]], moved: dict[ContactId, Key], stored_batch: StoredBatch
) -> dict[ContactId, RefoldRequest]:
    """Return the contacts that are queued already or get historical touchpoints.

    The queue entry of a merged contact passes to its survivor.
    """
    requests: dict[ContactId, RefoldRequest] = {}
    for contact in new.keys() | moved.keys():
        keys = [moved[contact]] if contact in moved else []
        keys += [t.key for t in new.get(contact, ())[:1]]
        start = min(keys)
        if any(t.mode == "historical" for t in new.get(contact, ())):
            requests[contact] = RefoldRequest("history", start, rebuild_profile=contact in moved)
        elif contact in stored_batch.refolding:
            requests[contact] = RefoldRequest("refolding", start, rebuild_profile=contact in moved)
    for merged, survivor in stored_batch.merged.items():
        entry = stored_batch.refolding.get(merged)
        if entry is not None:
            keys = [entry.start, *([moved[survivor]] if survivor in moved else [])]
            keys += [t.key for t in new.get(survivor, ())[:1]]
            before = requests.get(survivor, entry)
            reason = "history" if "history" in (entry.reason, before.reason) else entry.reason
            requests[survivor] = RefoldRequest(
                reason, min(*keys, before.start), rebuild_profile=True
            )
    return requests


def _key(touchpoint: Touchpoint) -> Key:
    return touchpoint.key
