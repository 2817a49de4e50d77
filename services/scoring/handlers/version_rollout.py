"""Rollout of a cycle version: fill a shadow, make it live, publish net changes, delete old folds.

1. Publishing a version makes it a shadow. From the next transaction on the stream folds it too, for
   the contacts that are filled already.
2. `fill_shadow` folds the history of one contact after the other, by id, beside the running stream;
   it can stop and resume at any contact.
3. When every contact is filled, `activate_shadow` waits until no transaction folds, and changes two
   rows: shadow to live, live to retired.
4. `publish_net_changes` publishes one net change for each contact whose position differs, at the
   version's rate.
5. `delete_retired_folds` deletes the rows stored under the old version.
"""

from libs.common.db.connection import Connection, Session
from libs.common.db.outbox import Outbox
from libs.common.db.unit_of_work import unit_of_work
from libs.common.observability import logs
from services.scoring.domain.publication import FoldContext
from services.scoring.handlers.contact_messages import raise_events_and_build_messages
from services.scoring.handlers.cycle_registry import CycleRegistry
from services.scoring.handlers.fold_transaction import FoldTransaction
from services.scoring.repository import cycle_versions, fold_states, identity
from services.scoring.repository.cycle_versions import VersionRow
from services.scoring.repository.touchpoint_history import FIRST_KEY

log = logs.get_logger(__name__)
FILL_BATCH = 100
SWEEP_BATCH = 2_000
ROUNDS_PER_SECOND = 2
"""Runs of `publish_net_changes` per second, over all processes."""


class VersionRollout:
    """Rollout jobs of cycle versions; each call does a bounded part of the work."""

    def __init__(self, session: Session, outbox: Outbox, catalogue: CycleRegistry) -> None:
        self._session = session
        self._outbox = outbox
        self._catalogue = catalogue

    async def seconds_until_work(self) -> float | None:
        """Return 0 while a rollout is unfinished, so that its jobs run at their pace, else None."""
        async with self._session.acquire() as connection:
            return 0.0 if await cycle_versions.has_unfinished(connection) else None

    async def fill_shadow(self) -> bool:
        """Fold the history of the next contacts into a shadow; return whether more remain."""
        async with self._session.acquire() as connection:
            for row in await cycle_versions.list_unfinished(connection, "filled_to"):
                async with unit_of_work(connection):
                    return await self._fill(connection, row)
        return False

    async def _fill(self, connection: Connection, candidate: VersionRow) -> bool:
        cycles = await self._catalogue.lock_active_cycles(connection)
        row = await cycle_versions.get_version_for_update(
            connection, candidate.cycle, candidate.version
        )
        if row is None or row.status != "shadow" or row.filled_to is None:
            return False
        next_contacts = await cycle_versions.list_next_contacts(
            connection, row.filled_to, FILL_BATCH
        )
        shadow_cycles = [cycle for cycle in cycles if cycle.engine.fold == row.fold]
        transaction = FoldTransaction(
            shadow_cycles, await identity.lock_contacts(connection, next_contacts), {}
        )
        contacts = [c for c, locked in transaction.locked.items() if locked.merged_into is None]
        await cycle_versions.update_progress(
            connection, row, "filled_to", next_contacts[-1] if next_contacts else None
        )
        await transaction.load(connection, contacts)
        plan = await transaction.plan_refold(connection, dict.fromkeys(contacts, FIRST_KEY))
        await transaction.refold(connection, plan, contacts, dict.fromkeys(contacts, FoldContext()))
        await fold_states.upsert_rows(connection, transaction.rows)
        await transaction.store_fold_errors(connection)
        return bool(next_contacts)

    async def activate_shadow(self) -> bool:
        """Make a shadow live once every contact is filled; always returns False."""
        async with self._session.acquire() as connection:
            ready = [
                r
                for r in await cycle_versions.list_versions(connection)
                if r.status == "shadow" and r.filled_to is None
            ]
            for row in ready:
                async with unit_of_work(connection):
                    await self._activate(connection, row)
        return False

    async def _activate(self, connection: Connection, candidate: VersionRow) -> None:
        await cycle_versions.lock_versions_exclusive(connection)
        row = await cycle_versions.get_version(connection, candidate.cycle, candidate.version)
        if row is None or row.status != "shadow" or row.filled_to is not None:
            return
        for version_row in await cycle_versions.list_versions(connection):
            if version_row.cycle == row.cycle and version_row.status == "live":
                await cycle_versions.update_status(
                    connection, version_row.cycle, version_row.version, "retired"
                )
        await cycle_versions.update_status(connection, row.cycle, row.version, "live")
        log.info("cycle_live", cycle=row.cycle, version=row.version)

    async def publish_net_changes(self) -> bool:
        """Publish the net changes of the next contacts, within the version's rate.

        Always returns False: the next part waits for the next interval.
        """
        async with self._session.acquire() as connection:
            for row in await cycle_versions.list_unfinished(connection, "told_to"):
                async with unit_of_work(connection):
                    await self._publish_net_changes(connection, row)
        return False

    async def _publish_net_changes(self, connection: Connection, candidate: VersionRow) -> None:
        cycles = [
            c
            for c in await self._catalogue.lock_active_cycles(connection)
            if c.live and not c.is_account_cycle
        ]
        row = await cycle_versions.get_version_for_update(
            connection, candidate.cycle, candidate.version
        )
        if row is None or row.status != "live" or row.told_to is None:
            return
        if not await cycle_versions.update_published_at(connection, row, 1 / ROUNDS_PER_SECOND):
            return
        next_contacts = await cycle_versions.list_next_contacts(
            connection, row.told_to, max(1, row.per_second // ROUNDS_PER_SECOND)
        )
        transaction = FoldTransaction(
            [c for c in cycles if c.engine.fold == row.fold],
            await identity.lock_contacts(connection, next_contacts),
            {},
        )
        queued = await fold_states.get_queued_refolds(connection, transaction.locked)
        contacts = [
            c
            for c, locked in transaction.locked.items()
            if c not in queued and locked.merged_into is None
        ]
        await transaction.load(connection, contacts)
        await transaction.fold_forward(connection, {contact: [] for contact in contacts})
        await fold_states.upsert_rows(connection, transaction.rows)
        transaction.messages += await raise_events_and_build_messages(
            connection, cycles, transaction.contacts_to_publish, {}, transaction
        )
        await self._outbox.insert_messages(connection, transaction.messages)
        await cycle_versions.update_progress(
            connection, row, "told_to", next_contacts[-1] if next_contacts else None
        )

    async def delete_retired_folds(self) -> bool:
        """Delete the next rows stored under a retired version; return whether more remain."""
        async with self._session.acquire() as connection:
            for candidate in await cycle_versions.list_unfinished(connection, "swept_to"):
                async with unit_of_work(connection):
                    await cycle_versions.lock_versions_shared(connection)
                    row = await cycle_versions.get_version_for_update(
                        connection, candidate.cycle, candidate.version
                    )
                    if row is None or row.status != "retired" or row.swept_to is None:
                        return False
                    last_contact = await cycle_versions.delete_fold_rows(
                        connection, row.fold, row.swept_to, SWEEP_BATCH
                    )
                    await cycle_versions.update_progress(connection, row, "swept_to", last_contact)
                    return last_contact is not None
        return False
