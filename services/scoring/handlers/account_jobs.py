"""Accounts are folded from their own queue, never inside a contact's transaction: what members do only appends to it."""

from typing import cast

from libs.common.db.connection import Connection, Session
from libs.common.db.outbox import Outbox
from libs.common.db.unit_of_work import unit_of_work
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
    """Folds accounts whose members did something, and fires their timers."""

    def __init__(
        self, session: Session, outbox: Outbox, catalogue: CycleRegistry, partitions: int
    ) -> None:
        self._session = session
        self._outbox = outbox
        self._catalogue = catalogue
        self._partitions = partitions

    async def refold(self) -> bool:
        """Fold queued accounts; return whether there may be more."""
        async with self._session.acquire() as connection:
            some = await accounts.list_queued(connection, ACCOUNTS_AT_ONCE)
            if not some:
                return False
            async with unit_of_work(connection):
                await self._refold(connection, some)
        return len(some) == ACCOUNTS_AT_ONCE

    async def _refold(self, connection: Connection, some: list[str]) -> None:
        work = await self._work(connection, some)
        due = await accounts.dequeue_accounts(connection, work.locked)
        await work.load(connection, due)
        plan = await work.plan_refold(
            connection, {account: one.start for account, one in due.items()}
        )
        for account in due:
            work.clear_timers(account)
        await work.refold(
            connection,
            plan,
            sorted(due),
            {account: _circumstances(one) for account, one in due.items()},
        )
        await self._save(connection, work)

    async def fire_timers(self) -> bool:
        """Make the accounts' flips that are due at or before the frontier; return whether there may be more."""
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
                work = await self._work(connection, due)
                await work.load(connection, work.locked)
                for account in work.locked:
                    work.clear_timers(account)
                await work.fold_forward(
                    connection, {account: [] for account in work.locked}, until=frontier
                )
                await self._save(connection, work)
        return len(due) == TIMERS_AT_ONCE

    async def _work(self, connection: Connection, some: list[str]) -> FoldTransaction:
        cycles: list[ActiveCycle] = [
            c for c in await self._catalogue.lock_active_cycles(connection) if c.is_account_cycle
        ]
        locked = await accounts.lock_accounts(connection, some)
        return FoldTransaction(cycles, locked, {}, histories=accounts.get_histories)

    async def _save(self, connection: Connection, work: FoldTransaction) -> None:
        work.rows.contacts.clear()
        await fold_states.upsert_rows(connection, work.rows)
        await fold_states.upsert_fold_errors(connection, work.failed)
        names = await accounts.get_group_ids(connection, {one.subject for one in work.changes})
        await self._outbox.insert_messages(
            connection,
            [
                outgoing_messages.account_stage_change_message(
                    c.engine, c.workspace, c.subject, names[c.subject], c.change
                )
                for c in work.changes
            ],
        )


def _circumstances(due: AccountRefold) -> FoldContext:
    """Return what is known of an account's fold; a touchpoint of a member is folded as if for the first time."""
    because = None if due.reason in ("touchpoint", "corrected") else cast("Reason", due.reason)
    return FoldContext(reason=because)
