"""An event about an account or a market is matched to contacts when plays decide: some at a time, from where it stopped."""

import asyncio
from collections.abc import Sequence

from libs.common import ids
from libs.common.clock import Clock
from libs.common.db.connection import Connection, Session
from libs.common.db.outbox import Outbox
from libs.common.db.unit_of_work import unit_of_work
from libs.common.messages import CompellingEvent
from services.orchestrator.domain.entering import enter, starts, trigger_of
from services.orchestrator.domain.program import Program
from services.orchestrator.domain.progress import Progress, proceed
from services.orchestrator.handlers.decided import Decided
from services.orchestrator.handlers.playbook import Book, Playbook
from services.orchestrator.repository import enrollments, people
from services.orchestrator.repository import sweeps as repository
from services.orchestrator.repository.sweeps import Sweep

AT_ONCE = 200


async def begin_sweeps(connection: Connection, book: Book, events: Sequence[CompellingEvent], now: int) -> None:
    """Begin a sweep for each play that an event about many starts; end those of an event that is withdrawn."""
    begun: list[Sweep] = []
    for event in events:
        if event.status == "withdrawn":
            await repository.end(connection, await repository.of_events(connection, [event.event_id]))
        elif event.contact_id is None:
            for program in book.live.get(event.workspace, {}).get(trigger_of(event), ()):
                if starts(program, event, now):
                    name = program.play.play
                    sweep_id = ids.derive("sweep", event.workspace, name, event.id)
                    begun.append(Sweep(sweep_id, event.workspace, name, event.account_id, event))
    if begun:
        await repository.begin(connection, begun, now)


class Sweeps:
    """Takes sweeps on, some contacts at a time."""

    def __init__(self, session: Session, outbox: Outbox, playbook: Playbook, clock: Clock, wake: asyncio.Event) -> None:
        """`wake` is set when something new is due."""
        self._session = session
        self._outbox = outbox
        self._playbook = playbook
        self._clock = clock
        self._wake = wake

    async def run(self) -> bool:
        """Take one sweep on; return whether there may be more."""
        async with self._session.use() as connection, unit_of_work(connection):
            book = await self._playbook.now(connection)
            sweep = await repository.one(connection, book.paused)
            if sweep is None:
                return False
            await self._take_on(connection, book, sweep)
        self._wake.set()
        return True

    async def _take_on(self, connection: Connection, book: Book, sweep: Sweep) -> None:
        programs = {program.play.play: program for program in book.programs(sweep.workspace)}
        program = programs.get(sweep.play)
        contacts = await repository.next_contacts(connection, sweep, AT_ONCE) if program else []
        if program is None or not contacts:
            await repository.end(connection, [sweep.sweep_id])
            return
        count = await self._enter(connection, book, program, sweep, contacts)
        await repository.reach(connection, sweep, contacts[-1], count)

    async def _enter(
        self, connection: Connection, book: Book, program: Program, sweep: Sweep, contacts: Sequence[str]
    ) -> int:
        await people.hold(connection, contacts)
        known = await people.facts(connection, contacts, book.vocabulary)
        before = await enrollments.earlier(connection, contacts, [sweep.play])
        decided, count = Decided(self._clock.now()), 0
        for contact in contacts:
            facts = known[contact]
            run = enter(program, sweep.event, facts, before.get((contact, sweep.play), []), decided.now)
            if not isinstance(run, str):
                count += 1
                going = run.status == "active"
                decided.entered(program, proceed(program, run, facts, decided.now) if going else Progress(run))
        await decided.write(connection, self._outbox)
        return count
