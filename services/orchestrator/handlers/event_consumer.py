"""Listening: consents and signals are kept; events start, end and wake runs. The same fenced transaction as everywhere."""

from collections.abc import Mapping, Sequence

from libs.common.api_keys import DEFAULT_WORKSPACE
from libs.common.db import offsets
from libs.common.db.connection import Connection, Session
from libs.common.db.unit_of_work import unit_of_work
from libs.common.errors import InvalidMessage, Unavailable
from libs.common.kafka.dead_letters import build_dead_letter
from libs.common.kafka.record import Record, offset_ranges
from libs.common.messages import (
    AccountStageChange,
    CompellingEvent,
    Message,
    Signal,
    StageChange,
    decode_value,
    event_type_of,
)
from libs.common.observability import metrics
from services.orchestrator.domain.contact_facts import ContactFacts
from services.orchestrator.domain.enrollment import Enrollment, end_enrollment
from services.orchestrator.domain.enrollment_entry import (
    PastEnrollment,
    concerns_enrollment,
    event_starts_play,
    exit_reason_from_events,
    trigger_key,
    try_enroll,
)
from services.orchestrator.domain.entry_cause import TriggerEvent, cause_from_event
from services.orchestrator.domain.play_program import PlayProgram
from services.orchestrator.handlers.contact_sweeps import start_event_sweeps
from services.orchestrator.handlers.decision_batch import DecisionBatch
from services.orchestrator.handlers.decision_context import DecisionContext
from services.orchestrator.handlers.dropoff_audiences import store_dropoffs
from services.orchestrator.handlers.enrollment_runner import advance_guarded
from services.orchestrator.handlers.play_registry import PlaySnapshot
from services.orchestrator.handlers.referrals import store_referrals
from services.orchestrator.handlers.segment_membership import select_announced, update_memberships
from services.orchestrator.repository import (
    consents,
    contact_lookup,
    contact_reader,
    enrollments,
    published_history,
)

GROUP = "orchestrator"
TOPICS = ("signals", "stage-changes", "compelling-events")
_MODELS: dict[str, type[TriggerEvent]] = {
    "signals": Signal,
    "stage-changes": StageChange,
    "compelling-events": CompellingEvent,
}
_CONSENT = {"consent_granted": True, "consent_withdrawn": False}
_ENDS_MAILS = {
    "mail_bounced": "bounced",
    "mail_complained": "complained",
    "mail_unsubscribed": "unsubscribed",
}
"""Signals after which a contact gets no more mails, of no play; and why."""


class EventHandler:
    """Takes signals and stage changes in."""

    def __init__(self, session: Session, context: DecisionContext) -> None:
        self._session = session
        self._outbox, self._registry = context.outbox, context.registry
        self._clock = context.clock

    async def next_offset(self, topic: str, partition: int, beginning: int) -> int:
        """Return the offset of record."""
        async with self._session.acquire() as connection:
            return await offsets.upsert_next_offset(
                connection, "orchestrator", GROUP, (topic, partition), beginning
            )

    async def handle(self, records: Sequence[Record]) -> int:
        """Hear records in one fenced transaction; return the number of dead letters."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            await offsets.update_offsets(connection, "orchestrator", GROUP, offset_ranges(records))
            events, dead = _read(records)
            await self._hear(connection, events)
            await self._outbox.insert_messages(connection, dead)
        return len(dead)

    async def store_dead_letter(self, record: Record, error: Exception) -> None:
        """Store one record that cannot be processed as a dead letter."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            await offsets.update_offsets(connection, "orchestrator", GROUP, offset_ranges([record]))
            await self._outbox.insert_messages(
                connection, [build_dead_letter("orchestrator", record, error)]
            )

    async def _hear(self, connection: Connection, events: Sequence[TriggerEvent]) -> None:
        signals = [event for event in events if isinstance(event, Signal)]
        snapshot = await self._registry.get_snapshot(connection)
        new = await contact_reader.insert_signals(
            connection, [(s.contact_id, s.signal, s.occurred_at, s.id) for s in signals]
        )
        await consents.upsert_consents(
            connection,
            [
                (s.workspace, s.contact_id, "marketing", _CONSENT[s.signal], s.occurred_at, s.id)
                for s in signals
                if s.signal in _CONSENT
            ],
        )
        await _end_mails(
            connection, [s for s in signals if s.signal in _ENDS_MAILS and s.id in new]
        )
        await store_referrals(
            connection,
            snapshot.vocabulary,
            [s for s in signals if s.workspace == DEFAULT_WORKSPACE],
            self._clock.now(),
        )
        await store_dropoffs(
            connection,
            snapshot.vocabulary,
            [event for event in events if isinstance(event, StageChange)],
        )
        # Plays are the default workspace's, and so is the key by which what they send comes back.
        mine = [event for event in events if event.workspace == DEFAULT_WORKSPACE]
        personal = [event for event in mine if event.contact_id is not None]
        if personal:
            await self._follow(connection, snapshot, personal)
        urgent = [event for event in mine if isinstance(event, CompellingEvent)]
        await start_event_sweeps(connection, snapshot, urgent, self._clock.now())
        await self._take_back(
            connection, [event.event_id for event in urgent if event.status == "withdrawn"]
        )

    async def _take_back(self, connection: Connection, ids: Sequence[str]) -> None:
        """End the runs that events started which are withdrawn now."""
        runs = await enrollments.list_of_events(connection, ids) if ids else []
        if runs:
            to = await contact_reader.get_survivors(connection, {run.contact_id for run in runs})
            await contact_reader.lock_contacts(connection, set(to.values()))
            decided = DecisionBatch(self._clock.now())
            for run in await enrollments.list_of_events(connection, ids):
                decided.add_exit(
                    end_enrollment(run, "exited", "event withdrawn"), to[run.contact_id]
                )
            await decided.save(connection, self._outbox)

    async def _follow(
        self, connection: Connection, snapshot: PlaySnapshot, events: Sequence[TriggerEvent]
    ) -> None:
        """Let events start, wake and end runs of those contacts for whom that may be."""
        now = self._clock.now()
        to = await contact_reader.get_survivors(
            connection, {event.contact_id or "" for event in events}
        )
        of_contact: dict[str, list[TriggerEvent]] = {}
        for event in events:
            of_contact.setdefault(to[event.contact_id or ""], []).append(event)
        starting = _starting(snapshot, of_contact, now)
        relatives = await contact_reader.get_aliases(connection, list(of_contact))
        running = {
            relatives[run.contact_id]
            for run in await enrollments.list_watched(connection, list(relatives), now)
        }
        watched, moved, costly = await select_announced(
            connection, DEFAULT_WORKSPACE, snapshot.watched.get(DEFAULT_WORKSPACE, ()), relatives
        )
        concerned = running | starting.keys() | moved
        if not concerned:
            return
        await contact_reader.lock_contacts(connection, concerned)
        if await contact_reader.get_survivors(connection, to.keys()) != to:
            raise Unavailable("contacts were merged meanwhile: the batch is taken again")
        known = await contact_reader.get_facts(connection, concerned, snapshot.vocabulary)
        known |= (
            await contact_reader.get_facts(connection, costly, snapshot.vocabulary, asked=True)
            if costly
            else {}
        )
        decided = DecisionBatch(now)
        runs = await enrollments.list_watched(
            connection, [r for r, who in relatives.items() if who in concerned], now
        )
        for run in runs:
            contact = relatives[run.contact_id]
            await self._touch(
                connection, snapshot, run, of_contact[contact], known[contact], decided
            )
        moves = await self._moves(connection, starting, relatives, of_contact)
        await self._enter(connection, starting, known, moves, decided)
        await decided.save(connection, self._outbox)
        mine = {contact: known[contact] for contact in moved}
        await update_memberships(
            connection, self._outbox, (DEFAULT_WORKSPACE, watched, now), mine, live=True
        )

    async def _touch(
        self,
        connection: Connection,
        snapshot: PlaySnapshot,
        run: Enrollment,
        events: Sequence[TriggerEvent],
        facts: ContactFacts,
        decided: DecisionBatch,
    ) -> None:
        """Let events end a run, or wake it; one of a paused play they may only end."""
        program = await self._registry.get_program(connection, run.workspace, run.play, run.number)
        if program is None or not concerns_enrollment(program, run, events):
            return
        reason = exit_reason_from_events(program, run, events)
        if reason and run.status in ("active", "completed"):
            decided.add_exit(end_enrollment(run, "exited", reason), facts.contact_id)
        elif f"{run.workspace}:{run.play}" not in snapshot.paused:
            await advance_guarded(connection, self._registry, run, facts, decided)

    async def _moves(
        self,
        connection: Connection,
        starting: Mapping[str, Sequence[tuple[PlayProgram, TriggerEvent]]],
        relatives: Mapping[str, str],
        of_contact: Mapping[str, Sequence[TriggerEvent]],
    ) -> Mapping[str, Sequence[TriggerEvent]]:
        """Return the moves since what starts plays that end by one: a move on another topic may have been heard before."""
        leaving = {
            contact: min(event.occurred_at for _, event in found)
            for contact, found in starting.items()
            if any(one.stage_change for program, _ in found for one in program.play.exits)
        }
        if not leaving:
            return {}
        ids = [one for one, contact in relatives.items() if contact in leaving]
        found: dict[str, list[TriggerEvent]] = {
            contact: list(of_contact[contact]) for contact in leaving
        }
        for one, kind, value in await published_history.list_recent(
            connection, ids, min(leaving.values())
        ):
            if kind == StageChange.KIND:
                found[relatives[one]].append(decode_value(StageChange, value))
        return found

    async def _enter(
        self,
        connection: Connection,
        starting: Mapping[str, Sequence[tuple[PlayProgram, TriggerEvent]]],
        known: Mapping[str, ContactFacts],
        moves: Mapping[str, Sequence[TriggerEvent]],
        decided: DecisionBatch,
    ) -> None:
        if not starting:
            return
        names = {program.play.play for found in starting.values() for program, _ in found}
        before = await enrollments.list_past(connection, list(starting), names)
        for contact, found in starting.items():
            for program, event in found:
                earlier = before.setdefault((contact, program.play.play), [])
                run = try_enroll(
                    program, cause_from_event(event), known[contact], earlier, decided.now
                )
                if isinstance(run, str):
                    continue
                reason = exit_reason_from_events(program, run, moves.get(contact, ()))
                run = (
                    end_enrollment(run, "exited", reason)
                    if reason and run.status == "active"
                    else run
                )
                earlier.append(PastEnrollment(run.entered_at, run.status))
                decided.add_enrollment(program, run, known[contact])


async def _end_mails(connection: Connection, signals: Sequence[Signal]) -> None:
    """Write no more to an address that bounced; who complained or unsubscribed is meant themselves, under any address."""
    of_address, of_contact = list[tuple[str, str, str]](), list[tuple[str, str, str]]()
    for s in signals:
        said, reason = s.properties.get("email_sha256"), _ENDS_MAILS[s.signal]
        address = said[:64] if isinstance(said, str) else ""
        if address:
            of_address.append((s.workspace, address, reason))
        if not address or s.signal != "mail_bounced":
            meant = await contact_lookup.list_claiming_address(connection, s.contact_id, address)
            of_contact += [(contact, "email", reason) for contact in {s.contact_id, *meant}]
    await consents.insert_address_suppressions(connection, of_address)
    await consents.insert_suppressions(connection, of_contact)


def _starting(
    snapshot: PlaySnapshot, of_contact: Mapping[str, Sequence[TriggerEvent]], now: int
) -> dict[str, list[tuple[PlayProgram, TriggerEvent]]]:
    """Return what events start, by contact."""
    found: dict[str, list[tuple[PlayProgram, TriggerEvent]]] = {}
    for contact, events in of_contact.items():
        for event in events:
            for program in snapshot.live.get(event.workspace, {}).get(trigger_key(event), ()):
                if event_starts_play(program, event, now):
                    found.setdefault(contact, []).append((program, event))
    return found


def _read(records: Sequence[Record]) -> tuple[list[TriggerEvent], list[Message]]:
    """Return the events of records, and dead letters for those that are none."""
    events: list[TriggerEvent] = []
    dead: list[Message] = []
    for record in records:
        if event_type_of(record.headers) == AccountStageChange.KIND:
            continue  # no play is about accounts yet
        try:
            events.append(decode_value(_MODELS[record.topic], record.value))
        except InvalidMessage as error:
            metrics.DEAD_LETTERS.labels(service="orchestrator", reason=error.reason).inc()
            dead.append(build_dead_letter("orchestrator", record, error))
    return events, dead
