"""Decision of one due action: exits, destination, ad-audience order, content, gate, rendering."""

from collections.abc import Mapping

import msgspec

from libs.common.errors import InvalidMessage
from libs.common.instants import DAY, MINUTE
from services.orchestrator.channels import Channel
from services.orchestrator.domain.ad_audience import audience_fault, audience_member_data
from services.orchestrator.domain.content import ContentItem, gate_reason
from services.orchestrator.domain.enrollment import end_enrollment, exit_reason
from services.orchestrator.domain.gate import GateRequest, GateRules, check_gate
from services.orchestrator.domain.gate_request import build_gate_request, offer_content
from services.orchestrator.domain.message_links import MessageLinks
from services.orchestrator.domain.rendered_message import message_contains, render_action
from services.orchestrator.handlers.decision_batch import DecisionBatch
from services.orchestrator.handlers.decision_state import ActionCase, ReservedAttempt
from services.orchestrator.repository.actions import LEASE_US, ActionOutcome
from services.orchestrator.repository.frequency_caps import DAYS_PER_WEEK

RECHECK_AFTER = 10 * MINUTE
"""Time after which an action that waits for the operator is decided again anyway (µs)."""


class CaseDecider:
    """Decides single actions into a decision batch."""

    def __init__(
        self, channels: Mapping[str, Channel], rules: GateRules, links: MessageLinks
    ) -> None:
        self._channels = channels
        self._rules = rules
        self._links = links

    def decide(self, case: ActionCase, batch: DecisionBatch) -> ReservedAttempt | None:
        """Return the reserved attempt, or None if the action gets another outcome."""
        action, facts = case.action, case.facts
        if action.status == "sending" and not self._channels[action.channel].idempotent:
            _mark_in_doubt(case, batch)
            return None
        if _end_if_exited(case, batch):
            return None
        destination_key = (action.workspace, action.destination)
        if action.destination and destination_key not in case.snapshot.destinations:
            _hold(case, batch, f"no destination {action.destination!r} is defined")
            return None
        if defer_audience_addition(case, batch):
            return None
        content, unfit = _choose_content(case, batch.now)
        request = _build_request(case, unfit, batch.now // DAY)
        verdict = check_gate(request, self._rules, batch.now)
        if verdict.status == "send":
            return self._reserve(case, content, batch)
        due = verdict.until or (batch.now + RECHECK_AFTER if verdict.status == "held" else 0)
        until = verdict.until or None
        batch.add_outcome(
            action,
            facts.contact_id,
            ActionOutcome(verdict.status, verdict.reason, due, until=until),
        )
        return None

    def _reserve(
        self, case: ActionCase, content: ContentItem | None, batch: DecisionBatch
    ) -> ReservedAttempt | None:
        action, facts = case.action, case.facts
        destination = case.snapshot.destinations.get((action.workspace, action.destination))
        try:
            message = render_action(
                action.action_id,
                case.step,
                case.enrollment,
                facts,
                content,
                destination,
                self._links.valid_from(batch.now),
            )
        except InvalidMessage as error:
            _hold(case, batch, f"template: {error.detail}")
            return None
        if case.step.audience is not None:
            message = msgspec.structs.replace(
                message, data=audience_member_data(case.step.audience, facts, case.member_data)
            )
            batch.add_audience_data(action, case.step.audience.name, message.data)
        code = self._links.referral_code(action.workspace, facts.contact_id)
        if message_contains(message, code):
            batch.add_referral_code(action.workspace, code, facts.contact_id)
        attempt, content_name = action.attempts + 1, content.content if content else ""
        day = batch.now // DAY
        is_counted_now = (
            case.step.purpose == "marketing"
            and action.channel == "email"
            and action.counted_day != day
        )
        counted_day = day if is_counted_now else action.counted_day
        batch.add_reservation(action, attempt, batch.now + LEASE_US, content_name, counted_day)
        return ReservedAttempt(
            msgspec.structs.replace(action, content=content_name),
            facts,
            attempt,
            message,
            is_counted_now,
        )


def _mark_in_doubt(case: ActionCase, batch: DecisionBatch) -> None:
    """Conclude an attempt that has no outcome and must not be repeated."""
    action = case.action
    batch.add_attempt(action, "unknown", "the process ended during the attempt")
    batch.add_outcome(
        action,
        case.facts.contact_id,
        ActionOutcome(
            "in_doubt", "attempt_without_outcome", attempt=action.attempts, outcome="unknown"
        ),
    )


def _end_if_exited(case: ActionCase, batch: DecisionBatch) -> bool:
    """Skip the action of an enrollment that has exited or exits now; return whether it does."""
    enrollment, contact = case.enrollment, case.facts.contact_id
    has_exited = enrollment.status == "exited"
    reason = (
        enrollment.reason
        if has_exited
        else exit_reason(case.program, enrollment, case.facts, batch.now)
    )
    if not reason:
        return False
    if not has_exited:
        batch.add_exit(end_enrollment(enrollment, "exited", reason), contact)
    batch.add_outcome(case.action, contact, ActionOutcome("skipped", reason))
    return True


def _hold(case: ActionCase, batch: DecisionBatch, reason: str) -> None:
    outcome = ActionOutcome("held", reason, batch.now + RECHECK_AFTER)
    batch.add_outcome(case.action, case.facts.contact_id, outcome)


def defer_audience_addition(case: ActionCase, batch: DecisionBatch) -> bool:
    """Skip additions to an ad audience that the action's removal overtakes.

    Return whether the removal has to wait for an addition that is being sent: no contact may be
    added after its removal.
    """
    audience = case.step.audience
    if audience is None or audience.op != "remove":
        return False
    contact = case.facts.contact_id
    for row in case.unfinished:
        step = case.program.actions.get(row.step)
        has_same_destination = step is not None and row.destination == case.action.destination
        addition = step.audience if step is not None and has_same_destination else None
        if addition is None or (addition.op, addition.name) != ("add", audience.name):
            continue
        if row.status == "sending":
            soon = batch.now + MINUTE
            batch.add_outcome(
                case.action,
                contact,
                ActionOutcome("held", "an addition is under way", soon, until=soon),
            )
            return True
        if not batch.has_outcome(row.action_id):
            batch.add_outcome(row, contact, ActionOutcome("skipped", "taken out"))
    return False


def _build_request(case: ActionCase, unfit: str, day: int) -> GateRequest:
    action, (today, week) = case.action, case.sent
    # A retry does not count against itself.
    today -= action.counted_day == day
    week -= action.counted_day > day - DAYS_PER_WEEK
    destination = case.snapshot.destinations.get((action.workspace, action.destination))
    stopped = case.snapshot.stop_reason(action.workspace, action.play, action.channel)
    address = destination.url if destination else "the topic"
    return build_gate_request(
        case.step, case.facts, address, (max(0, today), max(0, week)), stopped=stopped, unfit=unfit
    )


def _choose_content(case: ActionCase, now: int) -> tuple[ContentItem | None, str]:
    """Return the content to offer, and the reason why the action is unfit for the contact.

    An action that needs content is unfit without one.
    """
    audience, spec = case.step.audience, case.step.content
    if audience is not None:
        member = case.program.members.get(case.action.step)
        is_added = case.member_data is not None
        return None, audience_fault(audience, member, case.facts, now, added=is_added)
    if spec is None:
        return None, ""
    items = case.snapshot.contents.get(case.action.workspace, ())
    if case.action.content:  # chosen at an earlier attempt
        chosen = next((item for item in items if item.content == case.action.content), None)
        if chosen is not None and (spec.override_gate or not gate_reason(chosen, case.facts)):
            return chosen, ""
    choice = offer_content(case.step, items, case.facts)
    return choice.item, "" if choice.item else f"no_content: {'; '.join(choice.reasons)}"
