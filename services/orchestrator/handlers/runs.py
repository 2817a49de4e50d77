"""Running enrollments: those that are due go on, whichever process comes first."""

import msgspec

from libs.common.db.connection import Connection, Session
from libs.common.db.unit_of_work import unit_of_work
from libs.common.instants import MINUTE
from libs.common.observability import logs
from services.orchestrator.domain.facts import Facts
from services.orchestrator.domain.progress import Progress, Run, goal_reached, proceed
from services.orchestrator.handlers.decided import Decided
from services.orchestrator.handlers.means import Means
from services.orchestrator.handlers.playbook import Playbook
from services.orchestrator.repository import enrollments, people

log = logs.get_logger(__name__)
AT_ONCE = 500
AGAIN = 10 * MINUTE
"""When a run is looked at again whose version this release cannot run."""


class Runner:
    """Takes due enrollments on."""

    def __init__(self, session: Session, means: Means) -> None:
        self._session = session
        self._outbox, self._playbook = means.outbox, means.playbook
        self._clock, self._wake = means.clock, means.wake

    async def run_due(self) -> bool:
        """Take on what is due, so many contacts at once; return whether there may be more."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            now = self._clock.now()
            book = await self._playbook.now(connection)
            contacts = await enrollments.due(connection, now, AT_ONCE)
            if not contacts:
                return False
            to = await people.survivors(connection, contacts)
            held = await people.hold(connection, set(to.values()), free=AT_ONCE)
            now_to = await people.survivors(connection, contacts)  # a merge may have come between
            mine = [contact for contact in contacts if to[contact] in held and now_to[contact] == to[contact]]
            runs = await enrollments.of_due(connection, mine, now, book.paused)
            known = await people.facts(connection, mine, book.vocabulary)
            decided = Decided(now)
            for run in runs:
                await go_on_carefully(connection, self._playbook, run, known[run.contact_id], decided)
            await decided.write(connection, self._outbox)
        self._wake.set()
        return bool(mine)


async def go_on_carefully(connection: Connection, playbook: Playbook, run: Run, facts: Facts, decided: Decided) -> None:
    """Take a run on; what nobody foresaw about it is no reason to stop the others."""
    try:
        await go_on(connection, playbook, run, facts, decided)
    except (ValueError, TypeError, LookupError, ArithmeticError):
        log.exception("run_failed", play=run.play, version=run.number)
        if run.due_at is not None and run.due_at <= decided.now:
            decided.waits(msgspec.structs.replace(run, due_at=decided.now + AGAIN))


async def go_on(connection: Connection, playbook: Playbook, run: Run, facts: Facts, decided: Decided) -> None:
    """Take a run on, and note whether its goal is reached; one that has ended may still reach it."""
    program = await playbook.program(connection, run.workspace, run.play, run.number)
    now = decided.now
    if program is None:
        if run.due_at is not None and run.due_at <= now:
            decided.waits(msgspec.structs.replace(run, due_at=now + AGAIN))
        return
    goal = program.play.goal
    at = goal_reached(program, goal, run, facts, now) if goal else None
    found = msgspec.structs.replace(run, goal_at=at)
    progress = proceed(program, found, facts, now) if run.status == "active" else Progress(found)
    decided.went_on(program, run, progress, facts.contact_id)
