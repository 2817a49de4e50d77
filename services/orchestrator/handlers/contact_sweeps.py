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
from services.orchestrator.domain.contact_facts import ContactFacts
from services.orchestrator.domain.enrollment_entry import event_starts_play, trigger_key, try_enroll
from services.orchestrator.domain.entry_cause import (
    EntryCause,
    cause_from_event,
    cause_from_schedule,
    cause_if_due,
)
from services.orchestrator.domain.play_program import PlayProgram
from services.orchestrator.domain.segment import WatchedSegment
from services.orchestrator.handlers.decision_batch import DecisionBatch
from services.orchestrator.handlers.decision_context import DecisionContext
from services.orchestrator.handlers.play_registry import PlaySnapshot
from services.orchestrator.handlers.segment_membership import update_memberships
from services.orchestrator.repository import contact_reader, enrollments, segment_members
from services.orchestrator.repository import sweeps as repository
from services.orchestrator.repository.sweeps import SEGMENT_PREFIX, SweepRow

BATCH_SIZE = 200
SWEEP_INTERVAL = parse_duration("15m")
"""How often everybody is looked at for moments."""
HOUR = parse_duration("1h")
NEVER = 1 << 60
"""When a schedule comes again (µs)."""


async def start_event_sweeps(
    connection: Connection, snapshot: PlaySnapshot, events: Sequence[CompellingEvent], now: int
) -> None:
    """Begin a sweep for each play that an event about many starts; end those of an event that is withdrawn."""
    begun: list[SweepRow] = []
    gone = {event.event_id for event in events if event.status == "withdrawn"}
    for event_id in gone:
        await repository.delete_event_sweeps(connection, event_id)
    for event in events:
        if event.contact_id is None and event.event_id not in gone:
            for program in snapshot.live.get(event.workspace, {}).get(trigger_key(event), ()):
                if event_starts_play(program, event, now):
                    name, occasion = program.play.play, cause_from_event(event)
                    sweep_id = ids.derive_id("sweep", event.workspace, name, event.id)
                    begun.append(
                        SweepRow(
                            sweep_id,
                            event.workspace,
                            name,
                            event.account_id,
                            event.event_id,
                            occasion,
                        )
                    )
    await repository.insert_sweeps(connection, begun, now)


def _pace(program: PlayProgram | None) -> tuple[int, int]:
    """Return how many contacts are looked at together, and how long nobody is afterwards (µs)."""
    per_hour = program.play.per_hour if program is not None else None
    if per_hour is None:
        return BATCH_SIZE, 0
    size = min(BATCH_SIZE, max(1, per_hour // 60))
    return size, HOUR * size // per_hour


class ContactSweeper:
    """Begins the sweeps that are due, and takes sweeps on."""

    def __init__(self, session: Session, context: DecisionContext) -> None:
        self._session = session
        self._outbox, self._registry = context.outbox, context.registry
        self._clock = context.clock

    async def start_due_sweeps(self) -> bool:
        """Begin a sweep for each play whose moment has come, or that is to be looked at again."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            snapshot, now = await self._registry.get_snapshot(connection), self._clock.now()
            for program in snapshot.timed_programs(DEFAULT_WORKSPACE):
                await self._tick(connection, program, now)
            for watched in snapshot.watched.get(DEFAULT_WORKSPACE, ()):
                await self._watch(connection, watched, now)
        return False

    async def seconds_until_tick(self) -> float | None:
        """Return the seconds until `start_due_sweeps` has work, or None."""
        async with self._session.acquire() as connection:
            return await repository.get_seconds_until_tick(connection, self._clock.now())

    async def seconds_until_sweep(self) -> float | None:
        """Return the seconds until `advance_sweep` has work, or None."""
        async with self._session.acquire() as connection:
            snapshot = await self._registry.get_snapshot(connection)
            return await repository.get_seconds_until_next(
                connection, snapshot.paused, self._clock.now()
            )

    async def _watch(self, connection: Connection, watched: WatchedSegment, now: int) -> None:
        """Begin to look at everybody for a segment, if it is time."""
        name, mark = f"{SEGMENT_PREFIX}{watched.name}", watched.mark
        count = await repository.update_tick(
            connection, (DEFAULT_WORKSPACE, name, mark), now, now, now + SWEEP_INTERVAL
        )
        if count == 0:
            await segment_members.delete_sweep_marks(
                connection, DEFAULT_WORKSPACE, watched.name, but=mark
            )
        if count is not None:
            sweep_id = ids.derive_id("sweep", DEFAULT_WORKSPACE, name, mark, str(count), str(now))
            sweep = SweepRow(
                sweep_id,
                DEFAULT_WORKSPACE,
                name,
                None,
                segment_members.first_sweep_mark(mark) if count == 0 else mark,
                None,
            )
            await repository.insert_sweeps(connection, [sweep], now)

    async def _tick(self, connection: Connection, program: PlayProgram, now: int) -> None:
        name, schedule = program.play.play, program.play.trigger.schedule
        if schedule is None:
            slot, first_at, next_at, occasion = "timed", now, now + SWEEP_INTERVAL, None
        else:
            occasion = cause_from_schedule(program, DEFAULT_WORKSPACE, schedule)
            if now > occasion.at + program.play.max_age:
                return
            slot, first_at, next_at = f"schedule:{occasion.at}", occasion.at, NEVER
        count = await repository.update_tick(
            connection, (DEFAULT_WORKSPACE, name, slot), first_at, now, next_at
        )
        if count is not None:
            sweep_id = ids.derive_id("sweep", DEFAULT_WORKSPACE, name, slot, str(count))
            sweep = SweepRow(sweep_id, DEFAULT_WORKSPACE, name, None, "", occasion)
            await repository.insert_sweeps(connection, [sweep], now)

    async def advance_sweep(self) -> bool:
        """Take one sweep on; return whether there may be more."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            snapshot = await self._registry.get_snapshot(connection)
            sweep = await repository.lock_next(connection, snapshot.paused, self._clock.now())
            if sweep is None:
                return False
            if sweep.segment is None:
                await self._take_on(connection, snapshot, sweep)
            else:
                await self._look(connection, snapshot, sweep)
        return True

    async def _look(self, connection: Connection, snapshot: PlaySnapshot, sweep: SweepRow) -> None:
        """Look at the next contacts for a segment."""
        # As it was written when the sweep began: written anew, it is looked at anew.
        marks = (segment_members.first_sweep_mark, str)
        mine = [
            one for one in snapshot.watched.get(sweep.workspace, ()) if one.name == sweep.segment
        ]
        watched = [one for one in mine if sweep.event_id in {mark(one.mark) for mark in marks}]
        contacts = (
            await repository.list_next_contacts(connection, sweep, BATCH_SIZE) if watched else []
        )
        if not contacts:
            await repository.delete_sweep(connection, sweep)
            return
        await contact_reader.lock_contacts(connection, contacts)
        known = await contact_reader.get_facts(
            connection, contacts, snapshot.vocabulary, asked=any(one.costly for one in watched)
        )
        now = self._clock.now()
        place = (sweep.workspace, watched, now)
        await update_memberships(
            connection, self._outbox, place, known, tell=sweep.event_id == watched[0].mark
        )
        await repository.update_reached(connection, sweep, contacts[-1], 0, now)

    async def _take_on(
        self, connection: Connection, snapshot: PlaySnapshot, sweep: SweepRow
    ) -> None:
        program = next(
            (one for one in snapshot.live_programs(sweep.workspace) if one.play.play == sweep.play),
            None,
        )
        size, pause = (
            _pace(program)
            if sweep.occasion is not None and sweep.account_id is None
            else (BATCH_SIZE, 0)
        )
        contacts = await repository.list_next_contacts(connection, sweep, size) if program else []
        if program is None or not contacts:
            await repository.delete_sweep(connection, sweep)
            return
        await contact_reader.lock_contacts(connection, contacts)
        known = await contact_reader.get_facts(connection, contacts, snapshot.vocabulary)
        occasions = {}
        for contact in contacts:
            found = sweep.occasion or cause_if_due(
                program, sweep.workspace, known[contact], self._clock.now()
            )
            if found is not None:
                occasions[contact] = found
        count = await self._enter(connection, program, occasions, known)
        now = self._clock.now()
        await repository.update_reached(connection, sweep, contacts[-1], count, now, now + pause)

    async def _enter(
        self,
        connection: Connection,
        program: PlayProgram,
        occasions: Mapping[str, EntryCause],
        known: Mapping[str, ContactFacts],
    ) -> int:
        name = program.play.play
        before = (
            await enrollments.list_past(connection, list(occasions), [name]) if occasions else {}
        )
        decided, count = DecisionBatch(self._clock.now()), 0
        for contact, occasion in occasions.items():
            facts = known[contact]
            run = try_enroll(program, occasion, facts, before.get((contact, name), []), decided.now)
            if not isinstance(run, str):
                count += 1
                decided.add_enrollment(program, run, facts)
        await decided.save(connection, self._outbox)
        return count
