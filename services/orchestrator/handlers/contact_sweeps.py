"""Contact sweeps: passes over many contacts for a play or a segment, batch by batch.

A compelling event about an account or a market starts a sweep; so does a tick, for plays with a
timed trigger and for watched segments. Contacts are locked while they are decided about, and a
sweep's progress is committed with its decisions.
"""

from collections.abc import Mapping, Sequence

from libs.common import ids
from libs.common.api_keys import DEFAULT_WORKSPACE
from libs.common.db.connection import Connection, Session
from libs.common.db.unit_of_work import unit_of_work
from libs.common.durations import parse_duration
from libs.common.ids import ContactId
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
from services.orchestrator.handlers.play_snapshot import PlaySnapshot
from services.orchestrator.handlers.segment_membership import update_memberships
from services.orchestrator.repository import contact_reader, enrollments, segment_members, sweeps
from services.orchestrator.repository.sweeps import SEGMENT_PREFIX, SweepRow

BATCH_SIZE = 200
SWEEP_INTERVAL = parse_duration("15m")
"""Time between two sweeps of a timed trigger or a segment (µs)."""
HOUR = parse_duration("1h")
NEVER = 1 << 60
"""Next tick of a schedule that has fired (µs)."""


async def start_event_sweeps(
    connection: Connection, snapshot: PlaySnapshot, events: Sequence[CompellingEvent], now: int
) -> None:
    """Insert the sweeps that events about many contacts start; delete those of withdrawn events."""
    started: list[SweepRow] = []
    withdrawn = {event.event_id for event in events if event.status == "withdrawn"}
    for event_id in withdrawn:
        await sweeps.delete_event_sweeps(connection, event_id)
    for event in events:
        if event.contact_id is not None or event.event_id in withdrawn:
            continue
        for program in snapshot.live.get(event.workspace, {}).get(trigger_key(event), ()):
            if event_starts_play(program, event, now):
                play = program.play.play
                started.append(
                    SweepRow(
                        ids.derive_id("sweep", event.workspace, play, event.id),
                        event.workspace,
                        play,
                        event.account_id,
                        event.event_id,
                        cause_from_event(event),
                    )
                )
    await sweeps.insert_sweeps(connection, started, now)


def _batch_pace(program: PlayProgram | None) -> tuple[int, int]:
    """Return (contacts per batch, pause after it in µs) by the play's rate."""
    per_hour = program.play.per_hour if program is not None else None
    if per_hour is None:
        return BATCH_SIZE, 0
    size = min(BATCH_SIZE, max(1, per_hour // 60))
    return size, HOUR * size // per_hour


class ContactSweeper:
    """Starts the sweeps that are due, and advances sweeps."""

    def __init__(self, session: Session, context: DecisionContext) -> None:
        self._session = session
        self._outbox, self._registry = context.outbox, context.registry
        self._clock = context.clock

    async def start_due_sweeps(self) -> bool:
        """Insert the sweeps of the timed triggers and watched segments that are due."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            snapshot, now = await self._registry.get_snapshot(connection), self._clock.now()
            for program in snapshot.timed_programs(DEFAULT_WORKSPACE):
                await self._start_play_sweep(connection, program, now)
            for segment in snapshot.watched.get(DEFAULT_WORKSPACE, ()):
                await self._start_segment_sweep(connection, segment, now)
        return False

    async def seconds_until_tick(self) -> float | None:
        """Return the seconds until `start_due_sweeps` has work, or None."""
        async with self._session.acquire() as connection:
            return await sweeps.get_seconds_until_tick(connection, self._clock.now())

    async def seconds_until_sweep(self) -> float | None:
        """Return the seconds until `advance_sweep` has work, or None."""
        async with self._session.acquire() as connection:
            snapshot = await self._registry.get_snapshot(connection)
            return await sweeps.get_seconds_until_next(
                connection, snapshot.paused, self._clock.now()
            )

    async def _start_segment_sweep(
        self, connection: Connection, segment: WatchedSegment, now: int
    ) -> None:
        name, mark = f"{SEGMENT_PREFIX}{segment.name}", segment.mark
        count = await sweeps.update_tick_if_due(
            connection, (DEFAULT_WORKSPACE, name, mark), now, now, now + SWEEP_INTERVAL
        )
        if count == 0:
            await segment_members.delete_sweep_marks(
                connection, DEFAULT_WORKSPACE, segment.name, except_mark=mark
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
            await sweeps.insert_sweeps(connection, [sweep], now)

    async def _start_play_sweep(
        self, connection: Connection, program: PlayProgram, now: int
    ) -> None:
        name, schedule = program.play.play, program.play.trigger.schedule
        if schedule is None:
            slot, first_at, next_at, cause = "timed", now, now + SWEEP_INTERVAL, None
        else:
            cause = cause_from_schedule(program, DEFAULT_WORKSPACE, schedule)
            if now > cause.at + program.play.max_age:
                return
            slot, first_at, next_at = f"schedule:{cause.at}", cause.at, NEVER
        count = await sweeps.update_tick_if_due(
            connection, (DEFAULT_WORKSPACE, name, slot), first_at, now, next_at
        )
        if count is not None:
            sweep_id = ids.derive_id("sweep", DEFAULT_WORKSPACE, name, slot, str(count))
            sweep = SweepRow(sweep_id, DEFAULT_WORKSPACE, name, None, "", cause)
            await sweeps.insert_sweeps(connection, [sweep], now)

    async def advance_sweep(self) -> bool:
        """Advance one sweep by a batch; return whether to go on."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            snapshot = await self._registry.get_snapshot(connection)
            sweep = await sweeps.lock_next(connection, snapshot.paused, self._clock.now())
            if sweep is None:
                return False
            if sweep.segment is None:
                await self._advance_play_sweep(connection, snapshot, sweep)
            else:
                await self._advance_segment_sweep(connection, snapshot, sweep)
        return True

    async def _advance_segment_sweep(
        self, connection: Connection, snapshot: PlaySnapshot, sweep: SweepRow
    ) -> None:
        # A sweep ends early when the segment's condition has changed: a new one starts then.
        watched = [
            segment
            for segment in snapshot.watched.get(sweep.workspace, ())
            if segment.name == sweep.segment
            and sweep.event_id in {segment.mark, segment_members.first_sweep_mark(segment.mark)}
        ]
        contacts = await sweeps.list_next_contacts(connection, sweep, BATCH_SIZE) if watched else []
        if not contacts:
            await sweeps.delete_sweep(connection, sweep)
            return
        await contact_reader.lock_contacts(connection, contacts)
        facts = await contact_reader.get_facts(
            connection,
            contacts,
            snapshot.vocabulary,
            with_costly=any(segment.costly for segment in watched),
        )
        now = self._clock.now()
        await update_memberships(
            connection,
            self._outbox,
            (sweep.workspace, watched, now),
            facts,
            announce=sweep.event_id == watched[0].mark,
        )
        await sweeps.update_reached(connection, sweep, contacts[-1], 0, now)

    async def _advance_play_sweep(
        self, connection: Connection, snapshot: PlaySnapshot, sweep: SweepRow
    ) -> None:
        program = next(
            (
                program
                for program in snapshot.live_programs(sweep.workspace)
                if program.play.play == sweep.play
            ),
            None,
        )
        size, pause = (
            _batch_pace(program)
            if sweep.cause is not None and sweep.account_id is None
            else (BATCH_SIZE, 0)
        )
        contacts = await sweeps.list_next_contacts(connection, sweep, size) if program else []
        if program is None or not contacts:
            await sweeps.delete_sweep(connection, sweep)
            return
        await contact_reader.lock_contacts(connection, contacts)
        facts = await contact_reader.get_facts(connection, contacts, snapshot.vocabulary)
        causes = {}
        for contact in contacts:
            cause = sweep.cause or cause_if_due(
                program, sweep.workspace, facts[contact], self._clock.now()
            )
            if cause is not None:
                causes[contact] = cause
        count = await self._enroll(connection, program, causes, facts)
        now = self._clock.now()
        await sweeps.update_reached(connection, sweep, contacts[-1], count, now, now + pause)

    async def _enroll(
        self,
        connection: Connection,
        program: PlayProgram,
        causes: Mapping[ContactId, EntryCause],
        facts: Mapping[ContactId, ContactFacts],
    ) -> int:
        """Enroll contacts by their causes; return the number of new enrollments."""
        play = program.play.play
        past = await enrollments.list_past(connection, list(causes), [play]) if causes else {}
        batch, count = DecisionBatch(self._clock.now()), 0
        for contact, cause in causes.items():
            earlier = past.get((contact, play), [])
            enrollment = try_enroll(program, cause, facts[contact], earlier, batch.now)
            if not isinstance(enrollment, str):
                count += 1
                batch.add_enrollment(program, enrollment, facts[contact])
        await batch.save(connection, self._outbox)
        return count
