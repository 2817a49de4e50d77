"""Enrollments that events start, advance and end."""

from collections.abc import Mapping, Sequence

from libs.common.api_keys import DEFAULT_WORKSPACE
from libs.common.db.connection import Connection
from libs.common.errors import Unavailable
from libs.common.ids import ContactId
from libs.common.messages import StageChange, decode_value
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
from services.orchestrator.handlers.decision_batch import DecisionBatch
from services.orchestrator.handlers.decision_context import DecisionContext
from services.orchestrator.handlers.enrollment_runner import advance_guarded
from services.orchestrator.handlers.play_snapshot import PlaySnapshot
from services.orchestrator.handlers.segment_membership import select_announced, update_memberships
from services.orchestrator.repository import contact_reader, enrollments, published_history

EventsByContact = Mapping[ContactId, Sequence[TriggerEvent]]
Starts = Mapping[ContactId, Sequence[tuple[PlayProgram, TriggerEvent]]]
"""{canonical contact id: plays that its events may start}"""


class EventEnroller:
    """Applies events to the enrollments and segment memberships of their contacts."""

    def __init__(self, context: DecisionContext) -> None:
        self._outbox, self._registry, self._clock = context.outbox, context.registry, context.clock

    async def withdraw(self, connection: Connection, event_ids: Sequence[str]) -> None:
        """End the enrollments that withdrawn compelling events have started."""
        started = await enrollments.list_of_events(connection, event_ids) if event_ids else []
        if not started:
            return
        survivors = await contact_reader.get_survivors(
            connection, {enrollment.contact_id for enrollment in started}
        )
        await contact_reader.lock_contacts(connection, set(survivors.values()))
        batch = DecisionBatch(self._clock.now())
        for enrollment in await enrollments.list_of_events(connection, event_ids):
            batch.add_exit(
                end_enrollment(enrollment, "exited", "event withdrawn"),
                survivors[enrollment.contact_id],
            )
        await batch.save(connection, self._outbox)

    async def apply(
        self, connection: Connection, snapshot: PlaySnapshot, events: Sequence[TriggerEvent]
    ) -> None:
        """Start, advance and end enrollments of the contacts that the events concern.

        Contacts without a play to start, a watched enrollment or a watched segment are not locked.
        Raises Unavailable if a contact is merged meanwhile: the batch is processed again.
        """
        now = self._clock.now()
        survivors = await contact_reader.get_survivors(
            connection, {event.contact_id or ContactId("") for event in events}
        )
        by_contact: dict[ContactId, list[TriggerEvent]] = {}
        for event in events:
            by_contact.setdefault(survivors[event.contact_id or ContactId("")], []).append(event)
        starts = _find_starts(snapshot, by_contact, now)
        aliases = await contact_reader.get_aliases(connection, list(by_contact))
        enrolled = {
            aliases[enrollment.contact_id]
            for enrollment in await enrollments.list_watched(connection, list(aliases), now)
        }
        watched, moving, costly = await select_announced(
            connection, DEFAULT_WORKSPACE, snapshot.watched.get(DEFAULT_WORKSPACE, ()), aliases
        )
        concerned = enrolled | starts.keys() | moving
        if not concerned:
            return
        await contact_reader.lock_contacts(connection, concerned)
        if await contact_reader.get_survivors(connection, survivors.keys()) != survivors:
            raise Unavailable("contacts were merged meanwhile: the batch is taken again")
        facts = await contact_reader.get_facts(connection, concerned, snapshot.vocabulary)
        if costly:
            facts |= await contact_reader.get_facts(
                connection, costly, snapshot.vocabulary, with_costly=True
            )
        batch = DecisionBatch(now)
        concerned_aliases = [alias for alias, contact in aliases.items() if contact in concerned]
        for enrollment in await enrollments.list_watched(connection, concerned_aliases, now):
            contact = aliases[enrollment.contact_id]
            await self._apply_to_enrollment(
                connection, snapshot, enrollment, by_contact[contact], facts[contact], batch
            )
        exits = await self._read_possible_exits(connection, starts, aliases, by_contact)
        await self._enroll(connection, starts, facts, exits, batch)
        await batch.save(connection, self._outbox)
        await update_memberships(
            connection,
            self._outbox,
            (DEFAULT_WORKSPACE, watched, now),
            {contact: facts[contact] for contact in moving},
            live=True,
        )

    async def _apply_to_enrollment(
        self,
        connection: Connection,
        snapshot: PlaySnapshot,
        enrollment: Enrollment,
        events: Sequence[TriggerEvent],
        facts: ContactFacts,
        batch: DecisionBatch,
    ) -> None:
        """End or advance an enrollment; enrollments of a paused play can only end."""
        program = await self._registry.get_program(
            connection, enrollment.workspace, enrollment.play, enrollment.number
        )
        if program is None or not concerns_enrollment(program, enrollment, events):
            return
        reason = exit_reason_from_events(program, enrollment, events)
        if reason and enrollment.status in ("active", "completed"):
            batch.add_exit(end_enrollment(enrollment, "exited", reason), facts.contact_id)
        elif f"{enrollment.workspace}:{enrollment.play}" not in snapshot.paused:
            await advance_guarded(connection, self._registry, enrollment, facts, batch)

    async def _read_possible_exits(
        self,
        connection: Connection,
        starts: Starts,
        aliases: Mapping[ContactId, ContactId],
        by_contact: EventsByContact,
    ) -> EventsByContact:
        """Return the stage changes since the starting events of plays with a stage-change exit.

        Topics have no common order: the stage change may have been consumed before the event that
        starts the play.
        """
        first_starts = {
            contact: min(event.occurred_at for _, event in contact_starts)
            for contact, contact_starts in starts.items()
            if any(
                rule.stage_change for program, _ in contact_starts for rule in program.play.exits
            )
        }
        if not first_starts:
            return {}
        ids = [alias for alias, contact in aliases.items() if contact in first_starts]
        exits: dict[ContactId, list[TriggerEvent]] = {
            contact: list(by_contact[contact]) for contact in first_starts
        }
        for alias, kind, value in await published_history.list_recent(
            connection, ids, min(first_starts.values())
        ):
            if kind == StageChange.KIND:
                exits[aliases[alias]].append(decode_value(StageChange, value))
        return exits

    async def _enroll(
        self,
        connection: Connection,
        starts: Starts,
        facts: Mapping[ContactId, ContactFacts],
        exits: EventsByContact,
        batch: DecisionBatch,
    ) -> None:
        if not starts:
            return
        plays = {program.play.play for pairs in starts.values() for program, _ in pairs}
        past = await enrollments.list_past(connection, list(starts), plays)
        for contact, contact_starts in starts.items():
            for program, event in contact_starts:
                earlier = past.setdefault((contact, program.play.play), [])
                enrollment = try_enroll(
                    program, cause_from_event(event), facts[contact], earlier, batch.now
                )
                if isinstance(enrollment, str):
                    continue
                reason = exit_reason_from_events(program, enrollment, exits.get(contact, ()))
                if reason and enrollment.status == "active":
                    enrollment = end_enrollment(enrollment, "exited", reason)
                earlier.append(PastEnrollment(enrollment.entered_at, enrollment.status))
                batch.add_enrollment(program, enrollment, facts[contact])


def _find_starts(
    snapshot: PlaySnapshot, by_contact: EventsByContact, now: int
) -> dict[ContactId, list[tuple[PlayProgram, TriggerEvent]]]:
    starts: dict[ContactId, list[tuple[PlayProgram, TriggerEvent]]] = {}
    for contact, events in by_contact.items():
        for event in events:
            for program in snapshot.live.get(event.workspace, {}).get(trigger_key(event), ()):
                if event_starts_play(program, event, now):
                    starts.setdefault(contact, []).append((program, event))
    return starts
