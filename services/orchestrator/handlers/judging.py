"""Deciding: what is due on a lane passes the gate, and what may go out is reserved.

A lane is a channel and a destination. Everything about a contact is decided while it is held: how much it was sent, whether its
run still goes on, which of two plays goes first.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from libs.common.clock import Clock
from libs.common.db.connection import Connection
from libs.common.db.outbox import Outbox
from libs.common.errors import InvalidMessage
from libs.common.instants import DAY, MINUTE
from libs.common.observability import logs
from services.orchestrator.channels import Channel
from services.orchestrator.domain.asking import ask_of, offer
from services.orchestrator.domain.audience import told
from services.orchestrator.domain.audience import unfit as unfit_for
from services.orchestrator.domain.content import Item, too_early
from services.orchestrator.domain.facts import Facts
from services.orchestrator.domain.gate import Ask, Rules, judge
from services.orchestrator.domain.letter import says, write
from services.orchestrator.domain.links import Links
from services.orchestrator.domain.progress import ended, exit_reason
from services.orchestrator.handlers.decided import Decided
from services.orchestrator.handlers.playbook import Book, Playbook
from services.orchestrator.handlers.turn import Case, Lane, Reserved, Turn
from services.orchestrator.repository import actions as repository
from services.orchestrator.repository import enrollments, people
from services.orchestrator.repository.actions import LEASE, ActionRow, Became

log = logs.get_logger(__name__)
SIDE_BY_SIDE = 8
"""So many actions of a lane are sent at once, at most; so many may be in doubt after a crash."""
WIDEST = 256
"""So many contacts are looked at in one transaction, at most: where little goes out, it is that which takes the time."""
CANDIDATES = 16
"""So many due actions are looked at for each contact that is to be held: others may hold the first ones."""
LOOK_AGAIN = 10 * MINUTE
"""When what somebody has to let go is looked at again, should nobody say that it was let go."""


class Judging:
    """Decides what is due."""

    def __init__(
        self,
        outbox: Outbox,
        playbook: Playbook,
        channels: Mapping[str, Channel],
        rules: Rules,
        clock: Clock,
        links: Links,
    ) -> None:
        self._outbox = outbox
        self._playbook = playbook
        self._channels = channels
        self._rules = rules
        self._clock = clock
        self._links = links
        self._widths: dict[Lane, int] = {}

    async def decide(self, connection: Connection, lane: Lane) -> list[Reserved] | None:
        """Judge what is due for a few contacts; return what is reserved, None if nothing was due or others hold it."""
        now = self._clock.now()
        book = await self._playbook.now(connection)
        width = self._widths.get(lane, SIDE_BY_SIDE)
        contacts = await repository.due_contacts(connection, lane, now, max(CANDIDATES * SIDE_BY_SIDE, 2 * width))
        to = await people.survivors(connection, contacts)
        held = await people.hold(connection, set(to.values()), free=width) if contacts else set()
        now_to = await people.survivors(connection, contacts)  # a merge may have come between
        mine = [contact for contact in contacts if to[contact] in held and now_to[contact] == to[contact]]
        if not mine:
            return None
        due = await repository.due_actions(connection, lane, mine, now)
        turn = await self._turn(connection, lane, due, Decided(now), book)
        reserved: list[Reserved] = []
        for action in due:
            if len(reserved) == SIDE_BY_SIDE:
                break
            if turn.decided.is_decided(action.action_id):
                continue  # another one of the run has ended it
            one = await self._judged(connection, action, turn)
            if one is not None:
                reserved.append(one)
                turn.note(one)
        full = len(reserved) == SIDE_BY_SIDE
        self._widths[lane] = SIDE_BY_SIDE if full else min(WIDEST, 2 * width)
        await repository.count(connection, turn.counted, lane[0], now)
        await turn.decided.write(connection, self._outbox)
        return reserved

    async def _turn(
        self, connection: Connection, lane: Lane, due: Sequence[ActionRow], decided: Decided, book: Book
    ) -> Turn:
        known = await people.facts(connection, {action.contact_id for action in due}, book.vocabulary)
        ids = {action.enrollment_id for action in due}
        runs = await enrollments.some(connection, ids)
        on_audience = ids if lane[0] == "audience" else set[str]()
        told = await repository.told(connection, on_audience) if on_audience else {}
        unfinished = await repository.unfinished(connection, on_audience) if on_audience else {}
        used = await self._used(connection, known, lane[0], decided.now)
        return Turn(book, decided, runs, known, used, told, unfinished, Counter(), set())

    async def _judged(self, connection: Connection, action: ActionRow, turn: Turn) -> Reserved | None:
        """Decide one action; what nobody foresaw about it is no reason to stop the others."""
        facts, run, decided = turn.known[action.contact_id], turn.runs[action.enrollment_id], turn.decided
        program = await self._playbook.program(connection, run.workspace, run.play, run.number)
        step = program.actions.get(action.step) if program else None
        if program is None or step is None:
            why = Became("held", "this release cannot run the play's version", decided.now + LOOK_AGAIN)
            decided.conclude(action, facts.contact_id, why)
            return None
        try:
            used, run_id = turn.used[facts.contact_id], action.enrollment_id
            others = [
                msgspec.structs.replace(one, status="sending") if one.action_id in turn.under_way else one
                for one in turn.unfinished.get(run_id, ())
                if one.action_id != action.action_id
            ]
            audience = step.audience.name if step.audience else ""
            known_by = turn.told.get((run_id, action.destination, audience))
            case = Case(action, step, program, run, facts, turn.book, used, known_by, others)
            return self._one(case, decided)
        except Exception as error:
            log.exception("decision_failed", play=action.play, step=action.step)
            why = Became("held", f"decision failed: {type(error).__name__}", decided.now + LOOK_AGAIN)
            decided.conclude(action, facts.contact_id, why)
            return None

    async def _used(
        self, connection: Connection, known: Mapping[str, Facts], channel: str, now: int
    ) -> dict[str, tuple[int, int]]:
        relatives = await people.family(connection, {facts.contact_id for facts in known.values()})
        families: dict[str, list[str]] = {}
        for one, survivor in relatives.items():
            families.setdefault(survivor, []).append(one)
        return await repository.used(connection, families, channel, now)

    def _one(self, case: Case, decided: Decided) -> Reserved | None:
        """Decide one action: it is reserved, or something else becomes of it."""
        action, facts, run = case.action, case.facts, case.run
        if action.status == "sending" and not self._channels[action.channel].idempotent:
            decided.tried(action, "unknown", "the process ended during the attempt")
            decided.conclude(
                action,
                facts.contact_id,
                Became("in_doubt", "attempt_without_outcome", attempt=action.attempts, outcome="unknown"),
            )
            return None
        left = run.reason if run.status == "exited" else exit_reason(case.program, run, facts, decided.now)
        if left:
            if run.status != "exited":
                decided.left(ended(run, "exited", left), facts.contact_id)
            decided.conclude(action, facts.contact_id, Became("skipped", left))
            return None
        if action.destination and (action.workspace, action.destination) not in case.book.destinations:
            missing = Became("held", f"no destination {action.destination!r} is defined", decided.now + LOOK_AGAIN)
            decided.conclude(action, facts.contact_id, missing)
            return None
        if step_back(case, decided):
            return None
        content, unfit = _content(case, decided.now)
        verdict = judge(_ask(case, unfit, decided.now // DAY), self._rules, decided.now)
        if verdict.status == "send":
            return self._reserve(case, content, decided)
        due = verdict.until or (decided.now + LOOK_AGAIN if verdict.status == "held" else 0)
        until = verdict.until or None
        decided.conclude(action, facts.contact_id, Became(verdict.status, verdict.reason, due, until=until))
        return None

    def _reserve(self, case: Case, content: Item | None, decided: Decided) -> Reserved | None:
        action, facts = case.action, case.facts
        place = case.book.destinations.get((action.workspace, action.destination))
        try:
            letter = write(action.action_id, case.step, case.run, facts, content, place, self._links.at(decided.now))
        except InvalidMessage as error:
            decided.conclude(
                action, facts.contact_id, Became("held", f"template: {error.detail}", decided.now + LOOK_AGAIN)
            )
            return None
        if case.step.audience is not None:
            letter = msgspec.structs.replace(letter, data=told(case.step.audience, facts, case.told))
            decided.tells(action, case.step.audience.name, letter.data)
        code = self._links.code(action.workspace, facts.contact_id)
        if says(letter, code):
            decided.gives(action.workspace, code, facts.contact_id)
        attempt, name = action.attempts + 1, content.content if content else ""
        day = decided.now // DAY
        counts = case.step.purpose == "marketing" and action.channel == "email" and action.counted_day != day
        decided.reserve(action, attempt, decided.now + LEASE, name, day if counts else action.counted_day)
        return Reserved(msgspec.structs.replace(action, content=name), facts, attempt, letter, counts)


def step_back(case: Case, decided: Decided) -> bool:
    """Let nobody be added to an audience after they were taken out; return whether to wait until an addition is over."""
    audience = case.step.audience
    if audience is None or audience.op != "remove":
        return False
    contact = case.facts.contact_id
    for one in case.others:
        step = case.program.actions.get(one.step)
        added = step.audience if step is not None and one.destination == case.action.destination else None
        if added is None or (added.op, added.name) != ("add", audience.name):
            continue
        if one.status == "sending":
            soon = decided.now + MINUTE
            decided.conclude(case.action, contact, Became("held", "an addition is under way", soon, until=soon))
            return True
        if not decided.is_decided(one.action_id):
            decided.conclude(one, contact, Became("skipped", "taken out"))
    return False


def _ask(case: Case, unfit: str, day: int) -> Ask:
    action, (today, week) = case.action, case.used
    # What is tried again does not count against itself.
    today -= action.counted_day == day
    week -= action.counted_day > day - repository.WEEK
    place = case.book.destinations.get((action.workspace, action.destination))
    stopped = case.book.why_stopped(action.workspace, action.play, action.channel)
    address = place.url if place else "the topic"
    return ask_of(case.step, case.facts, address, (max(0, today), max(0, week)), stopped=stopped, unfit=unfit)


def _content(case: Case, now: int) -> tuple[Item | None, str]:
    """Return the content that an action offers, and why it does not fit the contact, or there is none where it wants one."""
    audience, wanted = case.step.audience, case.step.content
    if audience is not None:
        member = case.program.members.get(case.action.step)
        return None, unfit_for(audience, member, case.facts, now, added=case.told is not None)
    if wanted is None:
        return None, ""
    items = case.book.contents.get(case.action.workspace, ())
    if case.action.content:  # chosen at an earlier attempt
        chosen = next((item for item in items if item.content == case.action.content), None)
        if chosen is not None and (wanted.override_gate or not too_early(chosen, case.facts)):
            return chosen, ""
    found = offer(case.step, items, case.facts)
    return found.item, "" if found.item else f"no_content: {'; '.join(found.reasons)}"
