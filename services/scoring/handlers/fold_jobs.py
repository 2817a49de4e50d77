"""Timers of contacts, and the re-fold queue.

Timers run on the frontier, not on the wall clock, so that a backlog fires no false silence.
"""

from typing import cast

from libs.common.db.connection import Connection, Session
from libs.common.db.outbox import Outbox
from libs.common.db.unit_of_work import unit_of_work
from libs.common.ids import ContactId
from libs.common.messages.stage_change import Reason
from libs.common.observability import metrics
from services.scoring.domain.cycle import ActiveCycle
from services.scoring.domain.identity import Key
from services.scoring.domain.publication import FoldContext
from services.scoring.handlers.contact_messages import raise_events_and_build_messages
from services.scoring.handlers.cycle_registry import CycleRegistry
from services.scoring.handlers.fold_transaction import FoldTransaction
from services.scoring.repository import fold_states, identity, schedule, touchpoint_history
from services.scoring.repository.fold_states import RefoldRequest

TIMER_BATCH = 500
REFOLD_BATCH = 40
_PUBLISHED_REASONS = ("identity_merge", "identity_unmerge", "corrected", "cycle_published")
"""The reasons of queue entries that are also reasons of stage changes."""
TOUCHPOINT_BUDGET = 20_000
"""Most touchpoints that one transaction of the queue folds, unless a single contact has more."""


class FoldJobs:
    """Timer and re-fold jobs.

    Both pick candidates without locks, lock them in the order used everywhere, and check again.
    """

    def __init__(
        self, session: Session, outbox: Outbox, catalogue: CycleRegistry, partitions: int
    ) -> None:
        self._session = session
        self._outbox = outbox
        self._catalogue = catalogue
        self._partitions = partitions

    async def fire_timers(self) -> bool:
        """Apply the flips due at or before the frontier; return whether more may be due."""
        async with self._session.acquire() as connection:
            frontier = await schedule.get_frontier(connection, self._partitions)
            if frontier is None:
                return False
            metrics.FRONTIER.set(frontier / 1_000_000)
            folds = [cycle.engine.fold for cycle in await self._contact_cycles(connection)]
            due = await schedule.list_due_contacts(connection, folds, frontier, TIMER_BATCH)
            if not due:
                return False
            async with unit_of_work(connection):
                await self._fire_timers_of(connection, due, frontier)
        metrics.TIMERS_FIRED.inc(len(due))
        return len(due) == TIMER_BATCH

    async def _fire_timers_of(
        self, connection: Connection, due_contacts: list[ContactId], frontier: int
    ) -> None:
        transaction = FoldTransaction(
            await self._contact_cycles(connection),
            await identity.lock_contacts(connection, due_contacts),
            {},
        )
        queued = await fold_states.get_queued_refolds(connection, transaction.locked)
        contacts = [
            contact
            for contact, row in transaction.locked.items()
            if contact not in queued and row.merged_into is None
        ]
        await transaction.load(connection, contacts)
        for contact in contacts:
            transaction.clear_timers(contact)
        await transaction.fold_forward(
            connection, {contact: [] for contact in contacts}, until=frontier
        )
        await self._save(connection, transaction)

    async def refold(self) -> bool:
        """Fold queued contacts again; return whether more may be queued."""
        async with self._session.acquire() as connection:
            candidates = await schedule.list_queued_refolds(connection, REFOLD_BATCH)
            if not candidates:
                return False
            frontier = await schedule.get_frontier(connection, self._partitions) or 0
            async with unit_of_work(connection):
                done = await self._refold(connection, candidates, frontier)
        for request in done:
            metrics.REFOLDS.labels(reason=request.reason).inc()
        return len(candidates) == REFOLD_BATCH or len(done) < len(candidates)

    async def seconds_until_refold(self) -> float | None:
        """Return the seconds until `refold` has work, or None."""
        async with self._session.acquire() as connection:
            return await schedule.get_seconds_until_refold(connection)

    async def _refold(
        self, connection: Connection, candidates: list[ContactId], frontier: int
    ) -> list[RefoldRequest]:
        """Fold the candidates still queued, within the budget; return the requests done."""
        transaction = FoldTransaction(
            await self._contact_cycles(connection),
            await identity.lock_contacts(connection, candidates),
            {},
        )
        requests = await fold_states.get_queued_refolds(connection, transaction.locked)
        ready = [c for c in candidates if c in requests and not _is_merged(transaction, c)]
        await fold_states.dequeue_refolds(
            connection, [c for c in requests if _is_merged(transaction, c)]
        )
        await transaction.load(connection, ready)
        plan = await transaction.plan_refold(connection, {c: requests[c].start for c in ready})
        contacts = _within_budget(ready, plan.lengths)
        for contact in contacts:
            transaction.clear_timers(contact)
        await fold_states.delete_fold_errors(connection, contacts)
        contexts = {}
        for contact in contacts:
            last_historical_key = (
                await touchpoint_history.get_last_historical_key(connection, contact)
                if requests[contact].reason == "history"
                else None
            )
            contexts[contact] = _fold_context(requests[contact], last_historical_key, frontier)
        await transaction.refold(connection, plan, contacts, contexts)
        await transaction.rebuild_profiles(
            connection, [c for c in contacts if requests[c].rebuild_profile]
        )
        await fold_states.dequeue_refolds(connection, contacts)
        await self._save(connection, transaction)
        return [requests[c] for c in contacts]

    async def _contact_cycles(self, connection: Connection) -> list[ActiveCycle]:
        return [
            cycle
            for cycle in await self._catalogue.lock_active_cycles(connection)
            if not cycle.is_account_cycle
        ]

    async def _save(self, connection: Connection, transaction: FoldTransaction) -> None:
        await fold_states.upsert_rows(connection, transaction.rows)
        await transaction.store_fold_errors(connection)
        transaction.messages += await raise_events_and_build_messages(
            connection, transaction.cycles, transaction.contacts_to_publish, {}, transaction
        )
        await self._outbox.insert_messages(connection, transaction.messages)


def _is_merged(transaction: FoldTransaction, contact: ContactId) -> bool:
    return transaction.locked[contact].merged_into is not None


def _within_budget(contacts: list[ContactId], lengths: dict[ContactId, int]) -> list[ContactId]:
    """Return the first contacts whose touchpoints fit the budget, at least one.

    The budget bounds the length of the transaction.
    """
    chosen: list[ContactId] = []
    touchpoints = 0
    for contact in contacts:
        touchpoints += lengths.get(contact, 0)
        if chosen and touchpoints > TOUCHPOINT_BUDGET:
            break
        chosen.append(contact)
    return chosen


def _fold_context(
    request: RefoldRequest, last_historical_key: Key | None, frontier: int
) -> FoldContext:
    """Return the context of a queued re-fold.

    The queue does not record whether a late touchpoint was folded before, so a change that
    corrects a published one has the reason `corrected` and starts no play.
    """
    reason = cast("Reason", request.reason) if request.reason in _PUBLISHED_REASONS else None
    until = frontier if last_historical_key else -1
    return FoldContext(history=last_historical_key, frontier=frontier, reason=reason, until=until)
