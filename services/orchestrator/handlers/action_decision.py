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
from services.orchestrator.domain.ad_audience import audience_fault as unfit_for
from services.orchestrator.domain.ad_audience import audience_member_data
from services.orchestrator.domain.contact_facts import ContactFacts
from services.orchestrator.domain.content import ContentItem, gate_reason
from services.orchestrator.domain.enrollment import end_enrollment, exit_reason
from services.orchestrator.domain.gate import GateRequest, GateRules, check_gate
from services.orchestrator.domain.gate_request import build_gate_request, offer_content
from services.orchestrator.domain.message_links import MessageLinks
from services.orchestrator.domain.rendered_message import message_contains, render_action
from services.orchestrator.handlers.decision_batch import DecisionBatch
from services.orchestrator.handlers.decision_state import (
    ActionCase,
    DecisionRound,
    DispatchLane,
    ReservedAttempt,
)
from services.orchestrator.handlers.play_registry import PlayRegistry, PlaySnapshot
from services.orchestrator.repository import actions as repository
from services.orchestrator.repository import contact_reader, enrollments
from services.orchestrator.repository.actions import LEASE_US, ActionOutcome, ActionRow

log = logs.get_logger(__name__)
MIN_CONTACTS = 8
"""So many actions of a lane are sent at once, at most; so many may be in doubt after a crash."""
MAX_CONTACTS = 256
"""So many contacts are looked at in one transaction, at most: where little goes out, it is that which takes the time."""
CANDIDATE_FACTOR = 16
"""So many due actions are looked at for each contact that is to be held: others may hold the first ones."""
RECHECK_AFTER = 10 * MINUTE
"""When what somebody has to let go is looked at again, should nobody say that it was let go."""


class ActionDecider:
    """Decides what is due."""

    def __init__(
        self,
        outbox: Outbox,
        registry: PlayRegistry,
        channels: Mapping[str, Channel],
        rules: GateRules,
        clock: Clock,
        links: MessageLinks,
    ) -> None:
        self._outbox = outbox
        self._registry = registry
        self._channels = channels
        self._rules = rules
        self._clock = clock
        self._links = links
        self._widths: dict[DispatchLane, int] = {}

    async def decide_due(
        self, connection: Connection, lane: DispatchLane
    ) -> list[ReservedAttempt] | None:
        """Judge what is due for a few contacts; return what is reserved, None if nothing was due or others hold it."""
        now = self._clock.now()
        snapshot = await self._registry.get_snapshot(connection)
        width = self._widths.get(lane, MIN_CONTACTS)
        contacts = await repository.list_due_contacts(
            connection, lane, now, max(CANDIDATE_FACTOR * MIN_CONTACTS, 2 * width)
        )
        to = await contact_reader.get_survivors(connection, contacts)
        held = (
            await contact_reader.lock_contacts(connection, set(to.values()), free=width)
            if contacts
            else set()
        )
        now_to = await contact_reader.get_survivors(
            connection, contacts
        )  # a merge may have come between
        mine = [
            contact
            for contact in contacts
            if to[contact] in held and now_to[contact] == to[contact]
        ]
        if not mine:
            return None
        due = await repository.list_due_actions(connection, lane, mine, now)
        turn = await self._turn(connection, lane, due, DecisionBatch(now), snapshot)
        reserved: list[ReservedAttempt] = []
        for action in due:
            if len(reserved) == MIN_CONTACTS:
                break
            if turn.decided.has_outcome(action.action_id):
                continue  # another one of the run has ended it
            one = await self._judged(connection, action, turn)
            if one is not None:
                reserved.append(one)
                turn.add_reserved(one)
        full = len(reserved) == MIN_CONTACTS
        self._widths[lane] = MIN_CONTACTS if full else min(MAX_CONTACTS, 2 * width)
        await repository.upsert_cap_counts(connection, turn.counted, lane[0], now)
        await turn.decided.save(connection, self._outbox)
        return reserved

    async def _turn(
        self,
        connection: Connection,
        lane: DispatchLane,
        due: Sequence[ActionRow],
        decided: DecisionBatch,
        snapshot: PlaySnapshot,
    ) -> DecisionRound:
        known = await contact_reader.get_facts(
            connection, {action.contact_id for action in due}, snapshot.vocabulary
        )
        ids = {action.enrollment_id for action in due}
        runs = await enrollments.get_by_ids(connection, ids)
        on_audience = ids if lane[0] == "audience" else set[str]()
        told = await repository.get_audience_data(connection, on_audience) if on_audience else {}
        unfinished = (
            await repository.list_unfinished_audience_actions(connection, on_audience)
            if on_audience
            else {}
        )
        used = await self._used(connection, known, lane[0], decided.now)
        return DecisionRound(
            snapshot, decided, runs, known, used, told, unfinished, Counter(), set()
        )

    async def _judged(
        self, connection: Connection, action: ActionRow, turn: DecisionRound
    ) -> ReservedAttempt | None:
        """Decide one action; what nobody foresaw about it is no reason to stop the others."""
        facts, run, decided = (
            turn.known[action.contact_id],
            turn.runs[action.enrollment_id],
            turn.decided,
        )
        program = await self._registry.get_program(connection, run.workspace, run.play, run.number)
        step = program.actions.get(action.step) if program else None
        if program is None or step is None:
            why = ActionOutcome(
                "held", "this release cannot run the play's version", decided.now + RECHECK_AFTER
            )
            decided.add_outcome(action, facts.contact_id, why)
            return None
        try:
            used, run_id = turn.used[facts.contact_id], action.enrollment_id
            others = [
                msgspec.structs.replace(one, status="sending")
                if one.action_id in turn.under_way
                else one
                for one in turn.unfinished.get(run_id, ())
                if one.action_id != action.action_id
            ]
            audience = step.audience.name if step.audience else ""
            known_by = turn.told.get((run_id, action.destination, audience))
            case = ActionCase(
                action, step, program, run, facts, turn.snapshot, used, known_by, others
            )
            return self._one(case, decided)
        except Exception as error:
            log.exception("decision_failed", play=action.play, step=action.step)
            why = ActionOutcome(
                "held", f"decision failed: {type(error).__name__}", decided.now + RECHECK_AFTER
            )
            decided.add_outcome(action, facts.contact_id, why)
            return None

    async def _used(
        self, connection: Connection, known: Mapping[str, ContactFacts], channel: str, now: int
    ) -> dict[str, tuple[int, int]]:
        relatives = await contact_reader.get_aliases(
            connection, {facts.contact_id for facts in known.values()}
        )
        families: dict[str, list[str]] = {}
        for one, survivor in relatives.items():
            families.setdefault(survivor, []).append(one)
        return await repository.count_sent(connection, families, channel, now)

    def _one(self, case: ActionCase, decided: DecisionBatch) -> ReservedAttempt | None:
        """Decide one action: it is reserved, or something else becomes of it."""
        action, facts, run = case.action, case.facts, case.run
        if action.status == "sending" and not self._channels[action.channel].idempotent:
            decided.add_attempt(action, "unknown", "the process ended during the attempt")
            decided.add_outcome(
                action,
                facts.contact_id,
                ActionOutcome(
                    "in_doubt",
                    "attempt_without_outcome",
                    attempt=action.attempts,
                    outcome="unknown",
                ),
            )
            return None
        left = (
            run.reason
            if run.status == "exited"
            else exit_reason(case.program, run, facts, decided.now)
        )
        if left:
            if run.status != "exited":
                decided.add_exit(end_enrollment(run, "exited", left), facts.contact_id)
            decided.add_outcome(action, facts.contact_id, ActionOutcome("skipped", left))
            return None
        if (
            action.destination
            and (action.workspace, action.destination) not in case.snapshot.destinations
        ):
            missing = ActionOutcome(
                "held",
                f"no destination {action.destination!r} is defined",
                decided.now + RECHECK_AFTER,
            )
            decided.add_outcome(action, facts.contact_id, missing)
            return None
        if defer_audience_addition(case, decided):
            return None
        content, unfit = _content(case, decided.now)
        verdict = check_gate(_ask(case, unfit, decided.now // DAY), self._rules, decided.now)
        if verdict.status == "send":
            return self._reserve(case, content, decided)
        due = verdict.until or (decided.now + RECHECK_AFTER if verdict.status == "held" else 0)
        until = verdict.until or None
        decided.add_outcome(
            action,
            facts.contact_id,
            ActionOutcome(verdict.status, verdict.reason, due, until=until),
        )
        return None

    def _reserve(
        self, case: ActionCase, content: ContentItem | None, decided: DecisionBatch
    ) -> ReservedAttempt | None:
        action, facts = case.action, case.facts
        place = case.snapshot.destinations.get((action.workspace, action.destination))
        try:
            letter = render_action(
                action.action_id,
                case.step,
                case.run,
                facts,
                content,
                place,
                self._links.valid_from(decided.now),
            )
        except InvalidMessage as error:
            decided.add_outcome(
                action,
                facts.contact_id,
                ActionOutcome("held", f"template: {error.detail}", decided.now + RECHECK_AFTER),
            )
            return None
        if case.step.audience is not None:
            letter = msgspec.structs.replace(
                letter, data=audience_member_data(case.step.audience, facts, case.told)
            )
            decided.add_audience_data(action, case.step.audience.name, letter.data)
        code = self._links.referral_code(action.workspace, facts.contact_id)
        if message_contains(letter, code):
            decided.add_referral_code(action.workspace, code, facts.contact_id)
        attempt, name = action.attempts + 1, content.content if content else ""
        day = decided.now // DAY
        counts = (
            case.step.purpose == "marketing"
            and action.channel == "email"
            and action.counted_day != day
        )
        decided.add_reservation(
            action, attempt, decided.now + LEASE_US, name, day if counts else action.counted_day
        )
        return ReservedAttempt(
            msgspec.structs.replace(action, content=name), facts, attempt, letter, counts
        )


def defer_audience_addition(case: ActionCase, decided: DecisionBatch) -> bool:
    """Let nobody be added to an audience after they were taken out; return whether to wait until an addition is over."""
    audience = case.step.audience
    if audience is None or audience.op != "remove":
        return False
    contact = case.facts.contact_id
    for one in case.others:
        step = case.program.actions.get(one.step)
        added = (
            step.audience
            if step is not None and one.destination == case.action.destination
            else None
        )
        if added is None or (added.op, added.name) != ("add", audience.name):
            continue
        if one.status == "sending":
            soon = decided.now + MINUTE
            decided.add_outcome(
                case.action,
                contact,
                ActionOutcome("held", "an addition is under way", soon, until=soon),
            )
            return True
        if not decided.has_outcome(one.action_id):
            decided.add_outcome(one, contact, ActionOutcome("skipped", "taken out"))
    return False


def _ask(case: ActionCase, unfit: str, day: int) -> GateRequest:
    action, (today, week) = case.action, case.used
    # What is tried again does not count against itself.
    today -= action.counted_day == day
    week -= action.counted_day > day - repository.DAYS_PER_WEEK
    place = case.snapshot.destinations.get((action.workspace, action.destination))
    stopped = case.snapshot.stop_reason(action.workspace, action.play, action.channel)
    address = place.url if place else "the topic"
    return build_gate_request(
        case.step, case.facts, address, (max(0, today), max(0, week)), stopped=stopped, unfit=unfit
    )


def _content(case: ActionCase, now: int) -> tuple[ContentItem | None, str]:
    """Return the content that an action offers, and why it does not fit the contact, or there is none where it wants one."""
    audience, wanted = case.step.audience, case.step.content
    if audience is not None:
        member = case.program.members.get(case.action.step)
        return None, unfit_for(audience, member, case.facts, now, added=case.told is not None)
    if wanted is None:
        return None, ""
    items = case.snapshot.contents.get(case.action.workspace, ())
    if case.action.content:  # chosen at an earlier attempt
        chosen = next((item for item in items if item.content == case.action.content), None)
        if chosen is not None and (wanted.override_gate or not gate_reason(chosen, case.facts)):
            return chosen, ""
    found = offer_content(case.step, items, case.facts)
    return found.item, "" if found.item else f"no_content: {'; '.join(found.reasons)}"
