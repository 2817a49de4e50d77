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
from services.scoring.domain.publication import Circumstances
from services.scoring.handlers.catalogue import Catalogue
from services.scoring.handlers.news import news
from services.scoring.handlers.work import Work
from services.scoring.repository import identity, states, versions
from services.scoring.repository.history import BEFORE_ALL
from services.scoring.repository.versions import VersionRow

log = logs.get_logger(__name__)
FILLED_AT_ONCE = 100
SWEPT_AT_ONCE = 2_000
TURNS_PER_SECOND = 2
"""How often `tell` runs."""


class Publishing:
    """Takes versions from shadow to live, and retired ones out."""

    def __init__(self, session: Session, outbox: Outbox, catalogue: Catalogue) -> None:
        self._session = session
        self._outbox = outbox
        self._catalogue = catalogue

    async def fill(self) -> bool:
        """Fold the past of some more contacts into a shadow; return whether there is more."""
        async with self._session.acquire() as connection:
            for row in await versions.unfinished(connection, "filled_to"):
                async with unit_of_work(connection):
                    return await self._fill(connection, row)
        return False

    async def _fill(self, connection: Connection, seen: VersionRow) -> bool:
        cycles = await self._catalogue.folding(connection)
        row = await versions.one(connection, seen.cycle, seen.version, lock=True)
        if row is None or row.status != "shadow" or row.filled_to is None:
            return False
        some = await versions.next_contacts(connection, row.filled_to, FILLED_AT_ONCE)
        shadow = [cycle for cycle in cycles if cycle.engine.fold == row.fold]
        work = Work(shadow, await identity.lock(connection, some), {})
        found = [c for c, locked in work.locked.items() if locked.merged_into is None]
        await versions.move(connection, row, "filled_to", some[-1] if some else None)
        await work.load(connection, found)
        plan = await work.plan(connection, dict.fromkeys(found, BEFORE_ALL))
        await work.again(connection, plan, found, dict.fromkeys(found, Circumstances()))
        await states.save(connection, work.rows)
        await work.note_failures(connection)
        return bool(some)

    async def flip(self) -> bool:
        """Make a shadow live that everybody's past is in."""
        async with self._session.acquire() as connection:
            ready = [r for r in await versions.every(connection) if r.status == "shadow" and r.filled_to is None]
            for row in ready:
                async with unit_of_work(connection):
                    await self._flip(connection, row)
        return False

    async def _flip(self, connection: Connection, seen: VersionRow) -> None:
        await versions.hold_alone(connection)
        row = await versions.one(connection, seen.cycle, seen.version)
        if row is None or row.status != "shadow" or row.filled_to is not None:
            return
        for other in await versions.every(connection):
            if other.cycle == row.cycle and other.status == "live":
                await versions.become(connection, other.cycle, other.version, "retired")
        await versions.become(connection, row.cycle, row.version, "live")
        log.info("cycle_live", cycle=row.cycle, version=row.version)

    async def tell(self) -> bool:
        """Publish the net changes of some more contacts; never more than the version's rate."""
        async with self._session.acquire() as connection:
            for row in await versions.unfinished(connection, "told_to"):
                async with unit_of_work(connection):
                    await self._tell(connection, row)
        return False

    async def _tell(self, connection: Connection, seen: VersionRow) -> None:
        cycles = [c for c in await self._catalogue.folding(connection) if c.live and not c.of_accounts]
        row = await versions.one(connection, seen.cycle, seen.version, lock=True)
        if row is None or row.status != "live" or row.told_to is None:
            return
        if not await versions.turn(connection, row, 1 / TURNS_PER_SECOND):
            return
        some = await versions.next_contacts(connection, row.told_to, max(1, row.per_second // TURNS_PER_SECOND))
        work = Work([c for c in cycles if c.engine.fold == row.fold], await identity.lock(connection, some), {})
        waiting = await states.refolding(connection, work.locked)
        free = [c for c, locked in work.locked.items() if c not in waiting and locked.merged_into is None]
        await work.load(connection, free)
        await work.forward(connection, {contact: [] for contact in free})
        await states.save(connection, work.rows)
        work.messages += await news(connection, cycles, work.told, {}, work)
        await self._outbox.insert_messages(connection, work.messages)
        await versions.move(connection, row, "told_to", some[-1] if some else None)

    async def sweep(self) -> bool:
        """Take away some more of what is stored under a retired version; return whether there is more."""
        async with self._session.acquire() as connection:
            for row in await versions.unfinished(connection, "swept_to"):
                async with unit_of_work(connection):
                    await versions.hold(connection)
                    now = await versions.one(connection, row.cycle, row.version, lock=True)
                    if now is None or now.status != "retired" or now.swept_to is None:
                        return False
                    last = await versions.sweep(connection, now.fold, now.swept_to, SWEPT_AT_ONCE)
                    await versions.move(connection, now, "swept_to", last)
                    return last is not None
        return False
