"""A batch of touchpoints, in one fenced transaction. The steps are those of `libs.common.kafka.consumer`."""

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Sequence

from libs.common.db import offsets
from libs.common.db.connection import Connection, Session, SessionPool
from libs.common.db.outbox import Outbox
from libs.common.db.unit_of_work import unit_of_work
from libs.common.errors import InvalidMessage
from libs.common.failpoints import hit
from libs.common.kafka.dead_letters import build_dead_letter
from libs.common.kafka.record import Record, offset_ranges
from libs.common.messages import Message, Touchpoint, decode_value, event_type_of, traceparent_of
from libs.common.observability import metrics
from libs.common.observability.tracing import start_span, validate_traceparent
from services.scoring.domain import compelling_triggers, outgoing_messages
from services.scoring.domain.identity import Key
from services.scoring.domain.publication import FoldContext
from services.scoring.handlers.contact_messages import build_contact_messages
from services.scoring.handlers.cycle_registry import CycleRegistry
from services.scoring.handlers.fold_results import CachedContact
from services.scoring.handlers.fold_transaction import FoldTransaction
from services.scoring.handlers.identity_changes import refold_starts
from services.scoring.handlers.touchpoint_storage import StoredBatch, store_batch
from services.scoring.repository import accounts, fold_states, market_touchpoints
from services.scoring.repository.fold_states import RefoldRequest
from services.scoring.repository.touchpoints import StoredTouchpoint, prepare_touchpoint

GROUP = "scoring"
DECODE_SLICE = 2_000
_ABOUT = {
    "messaging.system": "kafka",
    "messaging.destination.name": "touchpoints",
    "messaging.operation.type": "process",
}
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
"""A NUL as JSON escapes it; behind an even number of backslashes it is text."""
MAX_INLINE_REFOLD = 1_000
"""A contact with more touchpoints than this is folded again from the queue, not in the stream's transaction."""
MAX_INLINE_BATCH = 20_000
"""The most touchpoints that one batch folds again; what is beyond goes to the queue as well."""


class ContactCache(OrderedDict[str, CachedContact]):
    """The cache of contacts: true under their version, the oldest forgotten first.

    An OrderedDict, since a plain dict looks for its first entry among all that were deleted there.
    """

    def __init__(self, limit: int = 100_000) -> None:
        super().__init__()
        self.limit = limit

    def __setitem__(self, contact: str, entry: CachedContact) -> None:
        """Keep an entry as the newest."""
        super().__setitem__(contact, entry)
        while len(self) > self.limit:
            self.popitem(last=False)


class TouchpointBatchHandler:
    """Stores touchpoints under their contacts, folds them, and writes what is to be told to the outbox."""

    def __init__(
        self,
        sessions: Sequence[Session],
        outbox: Outbox,
        catalogue: CycleRegistry,
        cache: dict[str, CachedContact],
    ) -> None:
        """`sessions` are as many as there are batches taken side by side."""
        self._sessions = SessionPool(sessions)
        self._outbox = outbox
        self._catalogue = catalogue
        self._cache = cache

    async def next_offset(self, topic: str, partition: int, beginning: int) -> int:
        """Return the offset of record."""
        async with self._sessions.acquire() as connection:
            return await offsets.upsert_next_offset(
                connection, "scoring", GROUP, (topic, partition), beginning
            )

    async def handle(self, records: Sequence[Record]) -> int:
        """Process a batch; return the number of dead letters."""
        begun = time.monotonic()
        found, dead = await _decode(records)
        batch = [one for one in found if one.touchpoint.scope == "contact"]
        others = [one for one in found if one.touchpoint.scope != "contact"]
        traces = [one.trace for one in batch if one.trace is not None]
        async with self._sessions.acquire() as connection:
            with start_span("process touchpoints", "CONSUMER", None, _ABOUT, traces):
                work, settled, kept = await self._commit(connection, records, batch, others, dead)
            if work:
                work.update_cache()
        metrics.TOUCHPOINTS_STORED.inc(kept + (len(settled.fresh) if settled else 0))
        metrics.TOUCHPOINTS_REPEATED.inc(len(others) - kept + (settled.repeated if settled else 0))
        metrics.BATCH_SECONDS.labels(service="scoring").observe(time.monotonic() - begun)
        return len(dead)

    async def _commit(
        self,
        connection: Connection,
        records: Sequence[Record],
        batch: list[StoredTouchpoint],
        others: list[StoredTouchpoint],
        dead: list[Message],
    ) -> tuple[FoldTransaction | None, StoredBatch | None, int]:
        async with unit_of_work(connection):
            await self._fence(connection, records)
            work, settled = await self._process(connection, batch) if batch else (None, None)
            kept = await market_touchpoints.insert_touchpoints(connection, others)
            await self._outbox.insert_messages(
                connection, [*(work.messages if work else []), *dead]
            )
        return work, settled, kept

    async def store_dead_letter(self, record: Record, error: Exception) -> None:
        """Store one record that cannot be processed as a dead letter."""
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
        self, connection: Connection, batch: list[StoredTouchpoint]
    ) -> tuple[FoldTransaction, StoredBatch]:
        folding = await self._catalogue.lock_active_cycles(connection)
        cycles = [cycle for cycle in folding if not cycle.is_account_cycle]
        settled = await store_batch(connection, batch)
        work = FoldTransaction(cycles, settled.locked, self._cache)
        work.traces = {one.touchpoint.key: one.trace for one in batch if one.trace is not None}
        self._tell_signals(work, settled)
        moved = await refold_starts(connection, settled.moved, settled.resolved_contacts)
        await self._fold(connection, work, settled, moved)
        await _note_accounts(connection, settled, moved, folded=len(cycles) < len(folding))
        for contact in settled.identity_changed:
            work.bump_version(contact, identity=True)
            if contact not in settled.merged and settled.locked[contact].merged_into is None:
                work.told.add(contact)
        await fold_states.upsert_rows(connection, work.rows)
        await work.store_fold_errors(connection)
        work.messages += await build_contact_messages(
            connection, cycles, work.told, settled.merged, work
        )
        return work, settled

    def _tell_signals(self, work: FoldTransaction, settled: StoredBatch) -> None:
        for touchpoint, contact in zip(settled.fresh, settled.owners, strict=True):
            for cycle in work.cycles:
                numbers = cycle.classifier.published_signals(touchpoint) if cycle.live else ()
                if numbers:
                    trace = work.traces.get(touchpoint.key)
                    work.messages += outgoing_messages.signal_messages(
                        cycle.engine, contact, touchpoint, numbers, trace
                    )
                    work.urgent += compelling_triggers.events_from_signals(
                        cycle.engine, contact, touchpoint, numbers
                    )

    async def _fold(
        self,
        connection: Connection,
        work: FoldTransaction,
        settled: StoredBatch,
        begin: dict[str, Key],
    ) -> None:
        """Send each contact the way that is right for it: forward, again from a checkpoint, or to the queue."""
        new: dict[str, list[Touchpoint]] = {}
        for touchpoint, contact in zip(settled.fresh, settled.owners, strict=True):
            new.setdefault(contact, []).append(touchpoint)
        for found in new.values():
            found.sort(key=_key)
        moved = {contact: key for contact, key in begin.items() if contact not in settled.merged}
        queued = _queued(new, moved, settled)
        straight = {c: found for c, found in new.items() if c not in queued and c not in moved}
        await work.load(connection, [*straight, *(moved.keys() - queued.keys())])
        froms = {c: key for c, key in moved.items() if c not in queued}
        froms |= {c: found[0].key for c, found in straight.items() if work.is_late(c, found[0].key)}
        for contact in froms.keys() & moved.keys() & new.keys():
            froms[contact] = min(froms[contact], new[contact][0].key)
        await work.fold_forward(
            connection, {c: found for c, found in straight.items() if c not in froms}
        )
        if froms:
            queued |= await self._fold_again(connection, work, froms, new, moved)
        relearned = moved.keys() - queued.keys()
        await work.rebuild_profiles(connection, relearned)
        for contact, found in new.items():
            if contact not in relearned:
                work.update_profile(contact, found)
        for contact in queued:
            work.bump_version(contact)
        await fold_states.enqueue_refolds(connection, queued)

    async def _fold_again(
        self,
        connection: Connection,
        work: FoldTransaction,
        froms: dict[str, Key],
        new: dict[str, list[Touchpoint]],
        moved: dict[str, Key],
    ) -> dict[str, RefoldRequest]:
        """Fold contacts again from a key; return those for whom that takes too long, for the queue."""
        plan = await work.plan_refold(connection, froms)
        short: list[str] = []
        spent = 0
        for contact in sorted(froms):
            length = plan.lengths.get(contact, 0) + len(new.get(contact, ()))
            if length <= MAX_INLINE_REFOLD and spent <= MAX_INLINE_BATCH:
                spent += length
                short.append(contact)
        known = {
            c: FoldContext(
                fresh=frozenset(t.key for t in new.get(c, ())),
                reason="identity_merge" if c in moved else None,
            )
            for c in short
        }
        await work.refold(connection, plan, short, known)
        return {
            c: RefoldRequest(
                "identity_merge" if c in moved else "late", froms[c], rebuild_profile=c in moved
            )
            for c in froms
            if c not in known
        }


async def _note_accounts(
    connection: Connection, settled: StoredBatch, moved: dict[str, Key], *, folded: bool
) -> None:
    """Note who may count for which account and, if accounts are folded, queue those concerned."""
    fresh = list(zip(settled.fresh, settled.owners, strict=True))
    await accounts.upsert_memberships(connection, fresh)
    await accounts.insert_moved_memberships(connection, settled.moved)
    if folded:
        since: dict[str, Key] = {}
        for touchpoint, contact in fresh:
            since[contact] = min(since.get(contact, touchpoint.key), touchpoint.key)
        await accounts.enqueue_members(connection, since, "touchpoint")
        await accounts.enqueue_members(connection, moved, "identity_merge")


def _queued(
    new: dict[str, list[Touchpoint]], moved: dict[str, Key], settled: StoredBatch
) -> dict[str, RefoldRequest]:
    """Return the contacts for the queue: those that wait there already, and those that get history."""
    queued: dict[str, RefoldRequest] = {}
    for contact in new.keys() | moved.keys():
        keys = [moved[contact]] if contact in moved else []
        keys += [t.key for t in new.get(contact, ())[:1]]
        start = min(keys)
        if any(t.mode == "historical" for t in new.get(contact, ())):
            queued[contact] = RefoldRequest("history", start, rebuild_profile=contact in moved)
        elif contact in settled.refolding:
            queued[contact] = RefoldRequest("refolding", start, rebuild_profile=contact in moved)
    for loser, survivor in settled.merged.items():
        waiting = settled.refolding.get(loser)
        if waiting is not None:
            keys = [waiting.start, *([moved[survivor]] if survivor in moved else [])]
            keys += [t.key for t in new.get(survivor, ())[:1]]
            before = queued.get(survivor, waiting)
            reason = "history" if "history" in (waiting.reason, before.reason) else waiting.reason
            queued[survivor] = RefoldRequest(reason, min(*keys, before.start), rebuild_profile=True)
    return queued


def _key(touchpoint: Touchpoint) -> tuple[int, str, str]:
    return touchpoint.key


async def _decode(records: Sequence[Record]) -> tuple[list[StoredTouchpoint], list[Message]]:
    batch, dead = [], []
    for number, record in enumerate(records):
        if number % DECODE_SLICE == DECODE_SLICE - 1:
            await asyncio.sleep(0)  # heartbeats are due
        try:
            batch.append(_stored(record))
        except InvalidMessage as error:
            metrics.DEAD_LETTERS.labels(service="scoring", reason=error.reason).inc()
            dead.append(build_dead_letter("scoring", record, error))
    return batch, dead


def _stored(record: Record) -> StoredTouchpoint:
    kind = event_type_of(record.headers)
    if kind and kind != Touchpoint.KIND:
        raise InvalidMessage("unknown_version", f"{kind}: this scoring reads {Touchpoint.KIND}")
    touchpoint = decode_value(Touchpoint, record.value)
    raw = record.value or b""
    if b"\0" in raw or (b"\\u0000" in raw and _NUL.search(raw)):
        raise InvalidMessage("nul", "the touchpoint holds a NUL character")
    if not 0 <= touchpoint.occurred_at < 1 << 53 or not 0 <= touchpoint.received_at < 1 << 53:
        raise InvalidMessage("bad_time", "occurred_at or received_at is out of range")
    return prepare_touchpoint(touchpoint, raw, validate_traceparent(traceparent_of(record.headers)))
