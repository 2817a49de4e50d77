"""A new version of a cycle: filled beside the live one while the stream runs, then flipped in, then told.

Publishing makes the version a shadow: from the next transaction on the stream folds it too, for everybody whose past is in
it already. `fill` folds the past of one contact after the other, by id; it can stop and go on anywhere. When everybody is
filled, `flip` waits until nobody folds and changes two rows: shadow to live, live to retired. Then `tell` publishes the net
change of each contact whose position differs, at a set rate, and `sweep` takes away what is stored under the old version.
"""

from libs.common.db.connection import Connection, Session
from libs.common.db.outbox import Outbox
from libs.common.db.unit_of_work import unit_of_work
from libs.common.observability import logs
from services.scoring.domain.publication import FoldContext
from services.scoring.handlers.contact_messages import build_contact_messages
from services.scoring.handlers.cycle_registry import CycleRegistry
from services.scoring.handlers.fold_transaction import FoldTransaction
from services.scoring.repository import cycle_versions, fold_states, identity
from services.scoring.repository.cycle_versions import VersionRow
from services.scoring.repository.touchpoint_history import FIRST_KEY

log = logs.get_logger(__name__)
FILL_BATCH = 100
SWEEP_BATCH = 2_000
ROUNDS_PER_SECOND = 2
"""How often `tell` runs."""


class VersionRollout:
    """Takes versions from shadow to live, and retired ones out."""

    def __init__(self, session: Session, outbox: Outbox, catalogue: CycleRegistry) -> None:
        self._session = session
        self._outbox = outbox
        self._catalogue = catalogue

    async def fill_shadow(self) -> bool:
        """Fold the past of some more contacts into a shadow; return whether there is more."""
        async with self._session.acquire() as connection:
            for row in await cycle_versions.list_unfinished(connection, "filled_to"):
                async with unit_of_work(connection):
                    return await self._fill(connection, row)
        return False

    async def _fill(self, connection: Connection, seen: VersionRow) -> bool:
        cycles = await self._catalogue.lock_active_cycles(connection)
        row = await cycle_versions.get_version(connection, seen.cycle, seen.version, lock=True)
        if row is None or row.status != "shadow" or row.filled_to is None:
            return False
        some = await cycle_versions.list_next_contacts(connection, row.filled_to, FILL_BATCH)
        shadow = [cycle for cycle in cycles if cycle.engine.fold == row.fold]
        work = FoldTransaction(shadow, await identity.lock_contacts(connection, some), {})
        found = [c for c, locked in work.locked.items() if locked.merged_into is None]
        await cycle_versions.update_progress(
            connection, row, "filled_to", some[-1] if some else None
        )
        await work.load(connection, found)
        plan = await work.plan_refold(connection, dict.fromkeys(found, FIRST_KEY))
        await work.refold(connection, plan, found, dict.fromkeys(found, FoldContext()))
        await fold_states.upsert_rows(connection, work.rows)
        await work.store_fold_errors(connection)
        return bool(some)

    async def activate_shadow(self) -> bool:
        """Make a shadow live that everybody's past is in."""
        async with self._session.acquire() as connection:
            ready = [
                r
                for r in await cycle_versions.list_versions(connection)
                if r.status == "shadow" and r.filled_to is None
            ]
            for row in ready:
                async with unit_of_work(connection):
                    await self._flip(connection, row)
        return False

    async def _flip(self, connection: Connection, seen: VersionRow) -> None:
        await cycle_versions.lock_versions_exclusive(connection)
        row = await cycle_versions.get_version(connection, seen.cycle, seen.version)
        if row is None or row.status != "shadow" or row.filled_to is not None:
            return
        for other in await cycle_versions.list_versions(connection):
            if other.cycle == row.cycle and other.status == "live":
                await cycle_versions.update_status(
                    connection, other.cycle, other.version, "retired"
                )
        await cycle_versions.update_status(connection, row.cycle, row.version, "live")
        log.info("cycle_live", cycle=row.cycle, version=row.version)

    async def publish_net_changes(self) -> bool:
        """Publish the net changes of some more contacts; never more than the version's rate."""
        async with self._session.acquire() as connection:
            for row in await cycle_versions.list_unfinished(connection, "told_to"):
                async with unit_of_work(connection):
                    await self._tell(connection, row)
        return False

    async def _tell(self, connection: Connection, seen: VersionRow) -> None:
        cycles = [
            c
            for c in await self._catalogue.lock_active_cycles(connection)
            if c.live and not c.is_account_cycle
        ]
        row = await cycle_versions.get_version(connection, seen.cycle, seen.version, lock=True)
        if row is None or row.status != "live" or row.told_to is None:
            return
        if not await cycle_versions.update_turn(connection, row, 1 / ROUNDS_PER_SECOND):
            return
        some = await cycle_versions.list_next_contacts(
            connection, row.told_to, max(1, row.per_second // ROUNDS_PER_SECOND)
        )
        work = FoldTransaction(
            [c for c in cycles if c.engine.fold == row.fold],
            await identity.lock_contacts(connection, some),
            {},
        )
        waiting = await fold_states.get_queued_refolds(connection, work.locked)
        free = [
            c
            for c, locked in work.locked.items()
            if c not in waiting and locked.merged_into is None
        ]
        await work.load(connection, free)
        await work.fold_forward(connection, {contact: [] for contact in free})
        await fold_states.upsert_rows(connection, work.rows)
        work.messages += await build_contact_messages(connection, cycles, work.told, {}, work)
        await self._outbox.insert_messages(connection, work.messages)
        await cycle_versions.update_progress(connection, row, "told_to", some[-1] if some else None)

    async def delete_retired_folds(self) -> bool:
        """Take away some more of what is stored under a retired version; return whether there is more."""
        async with self._session.acquire() as connection:
            for row in await cycle_versions.list_unfinished(connection, "swept_to"):
                async with unit_of_work(connection):
                    await cycle_versions.lock_versions_shared(connection)
                    now = await cycle_versions.get_version(
                        connection, row.cycle, row.version, lock=True
                    )
                    if now is None or now.status != "retired" or now.swept_to is None:
                        return False
                    last = await cycle_versions.delete_fold_rows(
                        connection, now.fold, now.swept_to, SWEEP_BATCH
                    )
                    await cycle_versions.update_progress(connection, now, "swept_to", last)
                    return last is not None
        return False
