"""What concerns many is matched to contacts when plays decide: some contacts at a time, from where the last stopped.

An event about an account or a market begins a sweep; so does the time, for plays that moments start. Contacts are held while they
are decided about, and how far a sweep has come commits with what it decided.
"""

from collections.abc import Mapping, Sequence

from libs.common import ids
from libs.common.api_keys import DEFAULT_WORKSPACE
from libs.common.db.connection import Connection, Session
from libs.common.db.unit_of_work import unit_of_work
from libs.common.durations import parse_duration
from libs.common.messages import CompellingEvent
from services.orchestrator.domain.entering import enter, starts, trigger_of
from services.orchestrator.domain.facts import Facts
from services.orchestrator.domain.occasion import Occasion, of_event, of_moment, of_schedule
from services.orchestrator.domain.program import Program
from services.orchestrator.domain.segment import Watched
from services.orchestrator.handlers.decided import Decided
from services.orchestrator.handlers.means import Means
from services.orchestrator.handlers.playbook import Book
from services.orchestrator.handlers.segments import settle
from services.orchestrator.repository import enrollments, people, segments
from services.orchestrator.repository import sweeps as repository
from services.orchestrator.repository.sweeps import OF_SEGMENT, Sweep

AT_ONCE = 200
EVERY = parse_duration("15m")
"""How often everybody is looked at for moments."""
HOUR = parse_duration("1h")
NEVER = 1 << 60
"""When a schedule comes again (µs)."""


async def begin_sweeps(connection: Connection, book: Book, events: Sequence[CompellingEvent], now: int) -> None:
    """Begin a sweep for each play that an event about many starts; end those of an event that is withdrawn."""
    begun: list[Sweep] = []
    gone = {event.event_id for event in events if event.status == "withdrawn"}
    for event_id in gone:
        await repository.take_back(connection, event_id)
    for event in events:
        if event.contact_id is None and event.event_id not in gone:
            for program in book.live.get(event.workspace, {}).get(trigger_of(event), ()):
                if starts(program, event, now):
                    name, occasion = program.play.play, of_event(event)
                    sweep_id = ids.derive_id("sweep", event.workspace, name, event.id)
                    begun.append(Sweep(sweep_id, event.workspace, name, event.account_id, event.event_id, occasion))
    await repository.begin(connection, begun, now)


def _pace(program: Program | None) -> tuple[int, int]:
    """Return how many contacts are looked at together, and how long nobody is afterwards (µs)."""
    per_hour = program.play.per_hour if program is not None else None
    if per_hour is None:
        return AT_ONCE, 0
    size = min(AT_ONCE, max(1, per_hour // 60))
    return size, HOUR * size // per_hour


class Sweeps:
    """Begins the sweeps that are due, and takes sweeps on."""

    def __init__(self, session: Session, means: Means) -> None:
        self._session = session
        self._outbox, self._playbook = means.outbox, means.playbook
        self._clock, self._wake = means.clock, means.wake

    async def tick(self) -> bool:
        """Begin a sweep for each play whose moment has come, or that is to be looked at again."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            book, now = await self._playbook.now(connection), self._clock.now()
            for program in book.scheduled(DEFAULT_WORKSPACE):
                await self._tick(connection, program, now)
            for watched in book.watched.get(DEFAULT_WORKSPACE, ()):
                await self._watch(connection, watched, now)
        return False

    async def _watch(self, connection: Connection, watched: Watched, now: int) -> None:
        """Begin to look at everybody for a segment, if it is time."""
        name, mark = f"{OF_SEGMENT}{watched.name}", watched.mark
        count = await repository.tick(connection, (DEFAULT_WORKSPACE, name, mark), now, now, now + EVERY)
        if count == 0:
            await segments.forget_looks(connection, DEFAULT_WORKSPACE, watched.name, but=mark)
        if count is not None:
            sweep_id = ids.derive_id("sweep", DEFAULT_WORKSPACE, name, mark, str(count), str(now))
            sweep = Sweep(sweep_id, DEFAULT_WORKSPACE, name, None, segments.first(mark) if count == 0 else mark, None)
            await repository.begin(connection, [sweep], now)

    async def _tick(self, connection: Connection, program: Program, now: int) -> None:
        name, schedule = program.play.play, program.play.trigger.schedule
        if schedule is None:
            slot, first_at, next_at, occasion = "timed", now, now + EVERY, None
        else:
            occasion = of_schedule(program, DEFAULT_WORKSPACE, schedule)
            if now > occasion.at + program.play.max_age:
                return
            slot, first_at, next_at = f"schedule:{occasion.at}", occasion.at, NEVER
        count = await repository.tick(connection, (DEFAULT_WORKSPACE, name, slot), first_at, now, next_at)
        if count is not None:
            sweep_id = ids.derive_id("sweep", DEFAULT_WORKSPACE, name, slot, str(count))
            sweep = Sweep(sweep_id, DEFAULT_WORKSPACE, name, None, "", occasion)
            await repository.begin(connection, [sweep], now)

    async def run(self) -> bool:
        """Take one sweep on; return whether there may be more."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            book = await self._playbook.now(connection)
            sweep = await repository.one(connection, book.paused, self._clock.now())
            if sweep is None:
                return False
            if sweep.segment is None:
                await self._take_on(connection, book, sweep)
            else:
                await self._look(connection, book, sweep)
        self._wake.set()
        return True

    async def _look(self, connection: Connection, book: Book, sweep: Sweep) -> None:
        """Look at the next contacts for a segment."""
        # As it was written when the sweep began: written anew, it is looked at anew.
        marks = (segments.first, str)
        mine = [one for one in book.watched.get(sweep.workspace, ()) if one.name == sweep.segment]
        watched = [one for one in mine if sweep.event_id in {mark(one.mark) for mark in marks}]
        contacts = await repository.next_contacts(connection, sweep, AT_ONCE) if watched else []
        if not contacts:
            await repository.end(connection, sweep)
            return
        await people.hold(connection, contacts)
        known = await people.facts(connection, contacts, book.vocabulary, asked=any(one.costly for one in watched))
        now = self._clock.now()
        place = (sweep.workspace, watched, now)
        await settle(connection, self._outbox, place, known, tell=sweep.event_id == watched[0].mark)
        await repository.reach(connection, sweep, contacts[-1], 0, now)

    async def _take_on(self, connection: Connection, book: Book, sweep: Sweep) -> None:
        program = next((one for one in book.programs(sweep.workspace) if one.play.play == sweep.play), None)
        size, pause = _pace(program) if sweep.occasion is not None and sweep.account_id is None else (AT_ONCE, 0)
        contacts = await repository.next_contacts(connection, sweep, size) if program else []
        if program is None or not contacts:
            await repository.end(connection, sweep)
            return
        await people.hold(connection, contacts)
        known = await people.facts(connection, contacts, book.vocabulary)
        occasions = {}
        for contact in contacts:
            found = sweep.occasion or of_moment(program, sweep.workspace, known[contact], self._clock.now())
            if found is not None:
                occasions[contact] = found
        count = await self._enter(connection, program, occasions, known)
        now = self._clock.now()
        await repository.reach(connection, sweep, contacts[-1], count, now, now + pause)

    async def _enter(
        self, connection: Connection, program: Program, occasions: Mapping[str, Occasion], known: Mapping[str, Facts]
    ) -> int:
        name = program.play.play
        before = await enrollments.earlier(connection, list(occasions), [name]) if occasions else {}
        decided, count = Decided(self._clock.now()), 0
        for contact, occasion in occasions.items():
            facts = known[contact]
            run = enter(program, occasion, facts, before.get((contact, name), []), decided.now)
            if not isinstance(run, str):
                count += 1
                decided.entered(program, run, facts)
        await decided.write(connection, self._outbox)
        return count
