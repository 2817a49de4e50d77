"""Folds and timers of accounts.

Accounts are folded from their own queue, never in a contact's transaction: a member's touchpoint
only adds an entry to the queue.
"""

from typing import cast

from libs.common.db.connection import Connection, Session
from libs.common.db.outbox import Outbox
from libs.common.db.unit_of_work import unit_of_work
from libs.common.ids import ContactId
from libs.common.messages.stage_change import Reason
from services.scoring.domain import outgoing_messages
from services.scoring.domain.cycle import ActiveCycle
from services.scoring.domain.publication import FoldContext
from services.scoring.handlers.cycle_registry import CycleRegistry
from services.scoring.handlers.fold_transaction import FoldTransaction
from services.scoring.repository import accounts, fold_states, schedule
from services.scoring.repository.accounts import AccountRefold

ACCOUNTS_AT_ONCE = 20
TIMERS_AT_ONCE = 200


class AccountJobs:
    """Re-fold and timer jobs of accounts."""

    def __init__(
        self, session: Session, outbox: Outbox, catalogue: CycleRegistry, partitions: int
    ) -> None:
        self._session = session
        self._outbox = outbox
        self._catalogue = catalogue
        self._partitions = partitions

    async def refold(self) -> bool:
        """Fold queued accounts; return whether more may be queued."""
        async with self._session.acquire() as connection:
            candidates = await accounts.list_queued(connection, ACCOUNTS_AT_ONCE)
            if not candidates:
                return False
            async with unit_of_work(connection):
                await self._refold(connection, candidates)
        return len(candidates) == ACCOUNTS_AT_ONCE

    async def seconds_until_refold(self) -> float | None:
        """Return 0 while an account is queued (another process may have locked it), else None."""
        async with self._session.acquire() as connection:
            return 0.0 if await accounts.has_queued(connection) else None

    async def _refold(self, connection: Connection, candidates: list[ContactId]) -> None:
        transaction = await self._begin_fold(connection, candidates)
        requests = await accounts.dequeue_accounts(connection, transaction.locked)
        await transaction.load(connection, requests)
        plan = await transaction.plan_refold(
            connection, {account: request.start for account, request in requests.items()}
        )
        for account in requests:
            transaction.clear_timers(account)
        await transaction.refold(
            connection,
            plan,
            sorted(requests),
            {account: _fold_context(request) for account, request in requests.items()},
        )
        await self._save(connection, transaction)

    async def fire_timers(self) -> bool:
        """Apply the flips due at or before the frontier; return whether more may be due."""
        async with self._session.acquire() as connection:
            frontier = await schedule.get_frontier(connection, self._partitions)
            folds = [
                c.engine.fold
                for c in await self._catalogue.lock_active_cycles(connection)
                if c.is_account_cycle
            ]
            if frontier is None or not folds:
                return False
            due = await schedule.list_due_contacts(connection, folds, frontier, TIMERS_AT_ONCE)
            if not due:
                return False
            async with unit_of_work(connection):
                transaction = await self._begin_fold(connection, due)
                await transaction.load(connection, transaction.locked)
                for account in transaction.locked:
                    transaction.clear_timers(account)
                await transaction.fold_forward(
                    connection, {account: [] for account in transaction.locked}, until=frontier
                )
                await self._save(connection, transaction)
        return len(due) == TIMERS_AT_ONCE

    async def _begin_fold(
        self, connection: Connection, candidates: list[ContactId]
    ) -> FoldTransaction:
        """Lock the cycles and the accounts that no other transaction has locked."""
        cycles: list[ActiveCycle] = [
            c for c in await self._catalogue.lock_active_cycles(connection) if c.is_account_cycle
        ]
        locked = await accounts.lock_accounts(connection, candidates)
        return FoldTransaction(cycles, locked, {}, histories=accounts.get_histories)

    async def _save(self, connection: Connection, transaction: FoldTransaction) -> None:
        transaction.rows.contacts.clear()
        await fold_states.upsert_rows(connection, transaction.rows)
        await fold_states.upsert_fold_errors(connection, transaction.failed)
        group_ids = await accounts.get_group_ids(
            connection, {change.subject for change in transaction.changes}
        )
        await self._outbox.insert_messages(
            connection,
            [
                outgoing_messages.account_stage_change_message(
                    c.engine, c.workspace, c.subject, group_ids[c.subject], c.change
                )
                for c in transaction.changes
            ],
        )


def _fold_context(request: AccountRefold) -> FoldContext:
    """Return the context of an account's re-fold.

    A member's touchpoint gives the context no reason, so it counts as folded for the first time.
    """
    reason = (
        None if request.reason in ("touchpoint", "corrected") else cast("Reason", request.reason)
    )
    return FoldContext(reason=reason)
