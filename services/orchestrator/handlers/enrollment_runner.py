"""Enrollment runner: advances the enrollments that are due, shared among all processes."""

import msgspec

from libs.common.db.connection import Connection, Session
from libs.common.db.unit_of_work import unit_of_work
from libs.common.instants import MINUTE
from libs.common.observability import logs
from services.orchestrator.domain.contact_facts import ContactFacts
from services.orchestrator.domain.enrollment import (
    AdvancedEnrollment,
    Enrollment,
    advance_enrollment,
    goal_reached_at,
)
from services.orchestrator.handlers.decision_batch import DecisionBatch
from services.orchestrator.handlers.decision_context import DecisionContext
from services.orchestrator.handlers.locked_contacts import lock_unmerged
from services.orchestrator.handlers.play_registry import PlayRegistry
from services.orchestrator.repository import contact_reader, enrollments

log = logs.get_logger(__name__)
BATCH_SIZE = 500
RETRY_AFTER = 10 * MINUTE
"""Delay of an enrollment that cannot be advanced: its version does not run here, or it failed."""


class EnrollmentRunner:
    """Advances due enrollments."""

    def __init__(self, session: Session, context: DecisionContext) -> None:
        self._session = session
        self._outbox, self._registry = context.outbox, context.registry
        self._clock = context.clock

    async def advance_due(self) -> bool:
        """Advance the due enrollments of one batch of contacts; return whether to go on."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            now = self._clock.now()
            snapshot = await self._registry.get_snapshot(connection)
            candidates = await enrollments.list_due_contacts(connection, now, BATCH_SIZE)
            if not candidates:
                return False
            contacts = await lock_unmerged(connection, candidates, BATCH_SIZE)
            due = await enrollments.list_due(connection, contacts, now, snapshot.paused)
            facts = await contact_reader.get_facts(connection, contacts, snapshot.vocabulary)
            batch = DecisionBatch(now)
            for enrollment in due:
                await advance_guarded(
                    connection, self._registry, enrollment, facts[enrollment.contact_id], batch
                )
            await batch.save(connection, self._outbox)
        return bool(contacts)

    async def seconds_until_due(self) -> float | None:
        """Return the seconds until `advance_due` has work, or None."""
        async with self._session.acquire() as connection:
            return await enrollments.get_seconds_until_due(connection, self._clock.now())


async def advance_guarded(
    connection: Connection,
    registry: PlayRegistry,
    enrollment: Enrollment,
    facts: ContactFacts,
    batch: DecisionBatch,
) -> None:
    """Advance an enrollment; an unforeseen error delays it and does not stop the others."""
    try:
        await _advance(connection, registry, enrollment, facts, batch)
    except (ValueError, TypeError, LookupError, ArithmeticError):
        log.exception("run_failed", play=enrollment.play, version=enrollment.number)
        _delay_if_due(enrollment, batch)


async def _advance(
    connection: Connection,
    registry: PlayRegistry,
    enrollment: Enrollment,
    facts: ContactFacts,
    batch: DecisionBatch,
) -> None:
    """Advance an enrollment and check its goal; an ended enrollment may still reach its goal."""
    program = await registry.get_program(
        connection, enrollment.workspace, enrollment.play, enrollment.number
    )
    if program is None:
        _delay_if_due(enrollment, batch)
        return
    goal = program.play.goal
    goal_at = goal_reached_at(program, goal, enrollment, facts, batch.now) if goal else None
    checked = msgspec.structs.replace(enrollment, goal_at=goal_at)
    progress = (
        advance_enrollment(program, checked, facts, batch.now)
        if enrollment.status == "active"
        else AdvancedEnrollment(checked)
    )
    batch.add_progress(program, enrollment, progress, facts.contact_id)


def _delay_if_due(enrollment: Enrollment, batch: DecisionBatch) -> None:
    if enrollment.due_at is not None and enrollment.due_at <= batch.now:
        due_at = batch.now + RETRY_AFTER
        batch.add_recheck(msgspec.structs.replace(enrollment, due_at=due_at))
