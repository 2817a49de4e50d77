"""Deciding: what is due on a lane passes the gate, and what may go out is reserved.

A lane is a channel and a destination. Everything about a contact is decided while it is held: how much it was sent, whether its
run still goes on, which of two plays goes first.
"""

from collections import Counter
from collections.abc import Mapping

import msgspec

from libs.common.clock import Clock
from libs.common.db.connection import Connection
from libs.common.db.outbox import Outbox
from libs.common.errors import InvalidMessage
from services.orchestrator.channels import Channel
from services.orchestrator.domain.content import Item, choose, too_early
from services.orchestrator.domain.facts import Facts
from services.orchestrator.domain.gate import Ask, Rules, judge
from services.orchestrator.domain.letter import Letter, Links, write
from services.orchestrator.domain.play import Action
from services.orchestrator.domain.program import Program
from services.orchestrator.domain.progress import Run, ended, exit_reason
from services.orchestrator.handlers.decided import Decided
from services.orchestrator.handlers.playbook import Book, Playbook
from services.orchestrator.handlers.telling import FAR
from services.orchestrator.repository import actions as repository
from services.orchestrator.repository import enrollments, people
from services.orchestrator.repository.actions import LEASE, ActionRow, Became

SIDE_BY_SIDE = 8
"""So many actions of a lane are sent at once, at most; so many may be in doubt after a crash."""
WIDEST = 256
"""So many contacts are looked at in one transaction, at most: where little goes out, it is that which takes the time."""
CANDIDATES = 16
"""So many due actions are looked at for each contact that is to be held: others may hold the first ones."""
Lane = tuple[str, str]


class Reserved(msgspec.Struct, frozen=True):
    """An attempt that is written down and not made yet."""

    action: ActionRow
    facts: Facts
    attempt: int
    letter: Letter


class Case(msgspec.Struct, frozen=True):
    """An action that is due, and all that its decision depends on."""

    action: ActionRow
    step: Action
    program: Program
    run: Run
    facts: Facts
    book: Book


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
        mine = [contact for contact in contacts if to[contact] in held]
        if not mine:
            return None
        due = await repository.due_actions(connection, lane, mine, now)
        known = await people.facts(connection, mine, book.vocabulary)
        runs = await enrollments.some(connection, {action.enrollment_id for action in due})
        used = await self._used(connection, known, lane[0], now)
        decided, reserved, counted = Decided(now), list[Reserved](), Counter[str]()
        for action in due:
            if len(reserved) == SIDE_BY_SIDE:
                break
            facts, run = known[action.contact_id], runs[action.enrollment_id]
            program = await self._playbook.program(connection, run.workspace, run.play, run.number)
            step = program.actions.get(action.step) if program else None
            if program is None or step is None:
                decided.conclude(action, facts.contact_id, Became("skipped", "play_is_gone"))
                continue
            case = Case(action, step, program, run, facts, book)
            one = self._one(case, used, decided)
            if one is not None:
                reserved.append(one)
                if step.purpose == "marketing" and not action.attempts:
                    counted[facts.contact_id] += 1
                    today, week = used[facts.contact_id]
                    used[facts.contact_id] = (today + 1, week + 1)
        full = len(reserved) == SIDE_BY_SIDE
        self._widths[lane] = SIDE_BY_SIDE if full else min(WIDEST, 2 * width)
        await repository.count(connection, counted, lane[0], now)
        await decided.write(connection, self._outbox)
        return reserved

    async def _used(
        self, connection: Connection, known: Mapping[str, Facts], channel: str, now: int
    ) -> dict[str, tuple[int, int]]:
        relatives = await people.family(connection, {facts.contact_id for facts in known.values()})
        families: dict[str, list[str]] = {}
        for one, survivor in relatives.items():
            families.setdefault(survivor, []).append(one)
        return await repository.used(connection, families, channel, now)

    def _one(self, case: Case, used: Mapping[str, tuple[int, int]], decided: Decided) -> Reserved | None:
        """Decide one action: it is reserved, or something else becomes of it."""
        action, facts, run = case.action, case.facts, case.run
        if action.status == "sending" and not self._channels[action.channel].idempotent:
            decided.tried(action, "unknown", "the process ended during the attempt")
            decided.conclude(action, facts.contact_id, Became("in_doubt", "attempt_without_outcome", outcome="unknown"))
            return None
        left = run.reason if run.status == "exited" else exit_reason(case.program, run, facts, decided.now)
        if left:
            if run.status != "exited":
                decided.left(ended(run, "exited", left), facts.contact_id)
            decided.conclude(action, facts.contact_id, Became("skipped", left))
            return None
        if action.destination and (action.workspace, action.destination) not in case.book.destinations:
            missing = Became("held", f"no destination {action.destination!r} is defined", FAR)
            decided.conclude(action, facts.contact_id, missing)
            return None
        content, unfit = _content(case)
        verdict = judge(self._ask(case, used, unfit), self._rules, decided.now)
        if verdict.status == "send":
            return self._reserve(case, content, decided)
        due = verdict.until or (FAR if verdict.status == "held" else 0)
        decided.conclude(action, facts.contact_id, Became(verdict.status, verdict.reason, due))
        return None

    def _ask(self, case: Case, used: Mapping[str, tuple[int, int]], unfit: str) -> Ask:
        action, facts, step = case.action, case.facts, case.step
        today, week = used[facts.contact_id]
        own = 1 if action.attempts else 0  # what is tried again does not count against itself
        place = case.book.destinations.get((action.workspace, action.destination))
        to_contact = action.channel == "email"
        return Ask(
            step.purpose if to_contact else "transactional",
            facts.email if to_contact else (place.url if place else None),
            facts.consents.get("marketing"),
            facts.suppressed.get(action.channel) or facts.suppressed.get("*"),
            max(0, today - own),
            max(0, week - own),
            facts.time_zone,
            case.book.why_stopped(action.workspace, action.play, action.channel),
            unfit,
        )

    def _reserve(self, case: Case, content: Item | None, decided: Decided) -> Reserved | None:
        action, facts = case.action, case.facts
        place = case.book.destinations.get((action.workspace, action.destination))
        try:
            letter = write(action.action_id, case.step, case.run, facts, content, place, self._links)
        except InvalidMessage as error:
            decided.conclude(action, facts.contact_id, Became("held", f"template: {error.detail}", FAR))
            return None
        attempt, name = action.attempts + 1, content.content if content else ""
        decided.reserve(action, attempt, decided.now + LEASE, name)
        return Reserved(msgspec.structs.replace(action, content=name), facts, attempt, letter)


def _content(case: Case) -> tuple[Item | None, str]:
    """Return the content that an action offers, and why there is none where it wants one."""
    wanted = case.step.content
    if wanted is None:
        return None, ""
    items = case.book.contents.get(case.action.workspace, ())
    if case.action.content:  # chosen at an earlier attempt
        chosen = next((item for item in items if item.content == case.action.content), None)
        if chosen is not None and (wanted.override_gate or not too_early(chosen, case.facts)):
            return chosen, ""
    found = choose(items, case.facts, case.action.channel, wanted.types, wanted.fallback, override=wanted.override_gate)
    return found.item, "" if found.item else f"no_content: {'; '.join(found.reasons)}"
