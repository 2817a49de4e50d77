"""Running enrollments: those that are due go on, whichever process comes first."""

import msgspec

from libs.common.db.connection import Connection, Session
from libs.common.db.unit_of_work import unit_of_work
from libs.common.instants import MINUTE
from libs.common.observability import logs
from services.orchestrator.domain.contact_facts import ContactFacts
from services.orchestrator.domain.enrollment import (
    Enrollment,
    EnrollmentProgress,
    advance_enrollment,
    goal_reached_at,
)
from services.orchestrator.handlers.decision_batch import DecisionBatch
from services.orchestrator.handlers.decision_context import DecisionContext
from services.orchestrator.handlers.play_registry import PlayRegistry
from services.orchestrator.repository import contact_reader, enrollments

log = logs.get_logger(__name__)
BATCH_SIZE = 500
RETRY_AFTER = 10 * MINUTE
"""When a run is looked at again whose version this release cannot run."""


class EnrollmentRunner:
    """Takes due enrollments on."""

    def __init__(self, session: Session, context: DecisionContext) -> None:
        self._session = session
        self._outbox, self._registry = context.outbox, context.registry
        self._clock = context.clock

    async def advance_due(self) -> bool:
        """Take on what is due, so many contacts at once; return whether there may be more."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            now = self._clock.now()
            snapshot = await self._registry.get_snapshot(connection)
            contacts = await enrollments.list_due_contacts(connection, now, BATCH_SIZE)
            if not contacts:
                return False
            to = await contact_reader.get_survivors(connection, contacts)
            held = await contact_reader.lock_contacts(connection, set(to.values()), free=BATCH_SIZE)
            now_to = await contact_reader.get_survivors(
                connection, contacts
            )  # a merge may have come between
            mine = [
                contact
                for contact in contacts
                if to[contact] in held and now_to[contact] == to[contact]
            ]
            runs = await enrollments.list_due(connection, mine, now, snapshot.paused)
            known = await contact_reader.get_facts(connection, mine, snapshot.vocabulary)
            decided = DecisionBatch(now)
            for run in runs:
                await advance_guarded(
                    connection, self._registry, run, known[run.contact_id], decided
                )
            await decided.save(connection, self._outbox)
        return bool(mine)

    async def seconds_until_due(self) -> float | None:
        """Return the seconds until `advance_due` has work, or None."""
        async with self._session.acquire() as connection:
            return await enrollments.get_seconds_until_due(connection, self._clock.now())


async def advance_guarded(
    connection: Connection,
    registry: PlayRegistry,
    run: Enrollment,
    facts: ContactFacts,
    decided: DecisionBatch,
) -> None:
    """Take a run on; what nobody foresaw about it is no reason to stop the others."""
    try:
        await advance_run(connection, registry, run, facts, decided)
    except (ValueError, TypeError, LookupError, ArithmeticError):
        log.exception("run_failed", play=run.play, version=run.number)
        if run.due_at is not None and run.due_at <= decided.now:
            decided.add_recheck(msgspec.structs.replace(run, due_at=decided.now + RETRY_AFTER))


async def advance_run(
    connection: Connection,
    registry: PlayRegistry,
    run: Enrollment,
    facts: ContactFacts,
    decided: DecisionBatch,
) -> None:
    """Take a run on, and note whether its goal is reached; one that has ended may still reach it."""
    program = await registry.get_program(connection, run.workspace, run.play, run.number)
    now = decided.now
    if program is None:
        if run.due_at is not None and run.due_at <= now:
            decided.add_recheck(msgspec.structs.replace(run, due_at=now + RETRY_AFTER))
        return
    goal = program.play.goal
    at = goal_reached_at(program, goal, run, facts, now) if goal else None
    found = msgspec.structs.replace(run, goal_at=at)
    progress = (
        advance_enrollment(program, found, facts, now)
        if run.status == "active"
        else EnrollmentProgress(found)
    )
    decided.add_progress(program, run, progress, facts.contact_id)
