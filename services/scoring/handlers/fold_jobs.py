"""What comes due: timers on the frontier, and the re-fold queue."""

from typing import cast

from libs.common.db.connection import Connection, Session
from libs.common.db.outbox import Outbox
from libs.common.db.unit_of_work import unit_of_work
from libs.common.messages.stage_change import Reason
from libs.common.observability import metrics
from services.scoring.domain.cycle import ActiveCycle
from services.scoring.domain.identity import Key
from services.scoring.domain.publication import FoldContext
from services.scoring.handlers.contact_messages import build_contact_messages
from services.scoring.handlers.cycle_registry import CycleRegistry
from services.scoring.handlers.fold_transaction import FoldTransaction
from services.scoring.repository import fold_states, identity, schedule, touchpoint_history
from services.scoring.repository.fold_states import RefoldRequest

TIMER_BATCH = 500
REFOLD_BATCH = 40
_CAUSES = ("identity_merge", "identity_unmerge", "corrected", "cycle_published")
TOUCHPOINT_BUDGET = 20_000
"""The most that one transaction of the queue folds, unless one contact has more."""


class FoldJobs:
    """Timers and re-folds. Both pick candidates without locks, lock in the one order, and look again."""

    def __init__(
        self, session: Session, outbox: Outbox, catalogue: CycleRegistry, partitions: int
    ) -> None:
        self._session = session
        self._outbox = outbox
        self._catalogue = catalogue
        self._partitions = partitions

    async def fire_timers(self) -> bool:
        """Make the flips that are due at or before the frontier; return whether there may be more."""
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
                await self._fire(connection, due, frontier)
        metrics.TIMERS_FIRED.inc(len(due))
        return len(due) == TIMER_BATCH

    async def _fire(self, connection: Connection, due: list[str], frontier: int) -> None:
        work = FoldTransaction(
            await self._contact_cycles(connection),
            await identity.lock_contacts(connection, due),
            {},
        )
        waiting = await fold_states.get_queued_refolds(connection, work.locked)
        free = [c for c, row in work.locked.items() if c not in waiting and row.merged_into is None]
        await work.load(connection, free)
        for contact in free:
            work.clear_timers(contact)
        await work.fold_forward(connection, {contact: [] for contact in free}, until=frontier)
        await self._save(connection, work)

    async def refold(self) -> bool:
        """Fold queued contacts again; return whether there may be more."""
        async with self._session.acquire() as connection:
            queued = await schedule.list_queued_refolds(connection, REFOLD_BATCH)
            if not queued:
                return False
            frontier = await schedule.get_frontier(connection, self._partitions) or 0
            async with unit_of_work(connection):
                done = await self._refold(connection, queued, frontier)
        for refold in done:
            metrics.REFOLDS.labels(reason=refold.reason).inc()
        return len(queued) == REFOLD_BATCH or len(done) < len(queued)

    async def _refold(
        self, connection: Connection, queued: list[str], frontier: int
    ) -> list[RefoldRequest]:
        work = FoldTransaction(
            await self._contact_cycles(connection),
            await identity.lock_contacts(connection, queued),
            {},
        )
        waiting = await fold_states.get_queued_refolds(connection, work.locked)
        ready = [c for c in queued if c in waiting and not _merged(work, c)]
        await fold_states.dequeue_refolds(connection, [c for c in waiting if _merged(work, c)])
        await work.load(connection, ready)
        plan = await work.plan_refold(connection, {c: waiting[c].start for c in ready})
        again = _within_budget(ready, plan.lengths)
        for contact in again:
            work.clear_timers(contact)
        await fold_states.delete_fold_errors(connection, again)
        known = {}
        for contact in again:
            old = waiting[contact].reason == "history"
            historical = (
                await touchpoint_history.get_last_historical_key(connection, contact)
                if old
                else None
            )
            known[contact] = _circumstances(waiting[contact], historical, frontier)
        await work.refold(connection, plan, again, known)
        await work.rebuild_profiles(connection, [c for c in again if waiting[c].rebuild_profile])
        await fold_states.dequeue_refolds(connection, again)
        await self._save(connection, work)
        return [waiting[c] for c in again]

    async def _contact_cycles(self, connection: Connection) -> list[ActiveCycle]:
        return [
            cycle
            for cycle in await self._catalogue.lock_active_cycles(connection)
            if not cycle.is_account_cycle
        ]

    async def _save(self, connection: Connection, work: FoldTransaction) -> None:
        await fold_states.upsert_rows(connection, work.rows)
        await work.store_fold_errors(connection)
        work.messages += await build_contact_messages(connection, work.cycles, work.told, {}, work)
        await self._outbox.insert_messages(connection, work.messages)


def _merged(work: FoldTransaction, contact: str) -> bool:
    return work.locked[contact].merged_into is not None


def _within_budget(contacts: list[str], lengths: dict[str, int]) -> list[str]:
    """Return as many contacts as their touchpoints allow, one at least: a transaction has to end in time."""
    taken: list[str] = []
    spent = 0
    for contact in contacts:
        spent += lengths.get(contact, 0)
        if taken and spent > TOUCHPOINT_BUDGET:
            break
        taken.append(contact)
    return taken


def _circumstances(refold: RefoldRequest, historical: Key | None, frontier: int) -> FoldContext:
    """Return what is known of a queued fold.

    Of touchpoints that came late it is not known any more whether they were folded before, so a change that takes back a
    published one counts as corrected, and starts no play.
    """
    because = cast("Reason", refold.reason) if refold.reason in _CAUSES else None
    until = frontier if historical else -1
    return FoldContext(history=historical, frontier=frontier, reason=because, until=until)
