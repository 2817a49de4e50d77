"""Simulation of a play over published history, with the production code and an injected clock.

For each contact the stored events are applied in order of their instants; between two events every
due wait, action and timed trigger is processed at its exact instant. The facts at an instant are
those published until then: the state after the last stage change (with its scores, decayed since),
signals and consents. Traits are those of today, since their history is not published; mails of
other plays are not counted against the caps.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import msgspec

from libs.common.api_keys import DEFAULT_WORKSPACE
from libs.common.ids import ContactId, WorkspaceId
from libs.common.instants import DAY
from libs.common.messages import CompellingEvent, Signal
from services.orchestrator.domain.action_spec import ActionSpec
from services.orchestrator.domain.condition_evaluator import ConditionTest
from services.orchestrator.domain.contact_facts import ContactFacts
from services.orchestrator.domain.content import ContentItem
from services.orchestrator.domain.cycle_vocabulary import CycleVocabularies
from services.orchestrator.domain.enrollment import (
    AdvancedEnrollment,
    Enrollment,
    advance_enrollment,
    end_enrollment,
    exit_reason,
    goal_reached_at,
)
from services.orchestrator.domain.enrollment_entry import (
    PastEnrollment,
    concerns_enrollment,
    event_starts_play,
    exit_reason_from_events,
    try_enroll,
)
from services.orchestrator.domain.entry_cause import (
    EntryCause,
    TriggerEvent,
    cause_from_event,
)
from services.orchestrator.domain.gate import GateRules, check_gate
from services.orchestrator.domain.gate_request import build_gate_request, offer_content
from services.orchestrator.domain.play_program import PlayProgram
from services.orchestrator.domain.simulated_facts import facts_after
from services.orchestrator.domain.simulated_timed_triggers import TimedTriggers

MAX_ROUNDS = 10_000
"""Limit of due instants per contact between two events, against plays that never end."""


class PublishedHistory(msgspec.Struct, frozen=True):
    """The published events about one contact, and its traits of today."""

    contact_id: ContactId
    traits: Mapping[str, Any]
    user_id: str | None
    events: Sequence[TriggerEvent]


class SimulatedStep(msgspec.Struct, frozen=True):
    """A simulated step at an instant (µs UTC).

    `what` is entered, held out, left, reached the goal, sent, held, capped, suppressed or skipped.
    """

    at: int
    contact_id: ContactId
    what: str
    step: str
    reason: str


class SimulationContext(msgspec.Struct, frozen=True):
    """The inputs that are the same for all contacts."""

    vocabulary: CycleVocabularies
    rules: GateRules
    contents: Sequence[ContentItem] = ()
    workspace: WorkspaceId = DEFAULT_WORKSPACE
    segment: ConditionTest | None = None
    """The condition of the segment that triggers the play."""


def simulate_play(
    program: PlayProgram,
    history: PublishedHistory,
    context: SimulationContext,
    start: int,
    end: int,
) -> list[SimulatedStep]:
    """Return the steps of a play for a contact between two instants (µs UTC)."""
    return _Simulation(program, history, context, start, end).run()


def count_by_day(steps: Sequence[SimulatedStep]) -> list[tuple[int, dict[str, int]]]:
    """Return the counts per day: (first instant of the day, {what: count})."""
    days: dict[int, Counter[str]] = {}
    for step in steps:
        days.setdefault(step.at // DAY * DAY, Counter())[step.what] += 1
    return [(day, dict(counts)) for day, counts in sorted(days.items())]


def _order(event: TriggerEvent) -> tuple[int, bool, str]:
    """Return the order of events: at one instant a signal follows the stage changes it causes.

    So a wait that ends with a stage change has ended before the signal of the same touchpoint exits
    the play, and the history shows its action as skipped, with the reason.
    """
    return event.occurred_at, isinstance(event, Signal), event.id


class _Simulation:
    def __init__(
        self,
        program: PlayProgram,
        history: PublishedHistory,
        context: SimulationContext,
        start: int,
        end: int,
    ) -> None:
        self._program, self._history, self._context = program, history, context
        self._start, self._end = start, end
        self._facts = ContactFacts(history.contact_id, history.traits, user_id=history.user_id)
        self._enrollments: dict[str, Enrollment] = {}
        self._pending: list[tuple[int, str, ActionSpec]] = []
        """(due, enrollment id, action)"""
        self._sent: list[int] = []
        self._steps: list[SimulatedStep] = []
        self._triggers = TimedTriggers(program, context.workspace, context.segment)

    def run(self) -> list[SimulatedStep]:
        events = sorted(self._history.events, key=_order)
        for now, simultaneous in groupby(events, key=lambda event: event.occurred_at):
            if now >= self._end:
                break
            if now >= self._start:
                self._start_triggers()
            self._process_until(now)
            # Events of one instant do not see each other's entries, nor the waits that end then.
            earlier = self._past_enrollments()
            for event in simultaneous:
                self._apply_event(event, earlier)
            self._process_due(now)
        self._start_triggers()
        self._process_until(self._end)
        return self._steps

    def _start_triggers(self) -> None:
        """Evaluate timed triggers from the start of the simulated period on."""
        if not self._triggers.started:
            self._triggers.start(self._facts, self._start)

    def _process_until(self, end: int) -> None:
        """Process everything that is due before an instant."""
        for _ in range(MAX_ROUNDS):
            due = min(self._due_instants(), default=end)
            if due >= end:
                return
            self._process_due(due)
        raise ValueError(
            f"play {self._program.play.play} does not come to an end "
            f"for contact {self._history.contact_id}"
        )

    def _due_instants(self) -> Iterator[int]:
        yield from (
            enrollment.due_at
            for enrollment in self._enrollments.values()
            if enrollment.status == "active" and enrollment.due_at is not None
        )
        yield from (due for due, _, _ in self._pending)
        yield from self._triggers.due_instants(self._facts)

    def _process_due(self, now: int) -> None:
        for cause in self._triggers.fire(self._facts, now):
            self._enter(cause, now, self._past_enrollments())
        for enrollment in list(self._enrollments.values()):
            due_at = enrollment.due_at
            if enrollment.status == "active" and due_at is not None and due_at <= now:
                self._advance(enrollment, now)
        for pending in [pending for pending in self._pending if pending[0] <= now]:
            self._pending.remove(pending)
            self._decide(pending[1], pending[2], now)

    def _past_enrollments(self) -> list[PastEnrollment]:
        return [PastEnrollment(e.entered_at, e.status) for e in self._enrollments.values()]

    def _apply_event(self, event: TriggerEvent, earlier: list[PastEnrollment]) -> None:
        self._facts = facts_after(self._facts, event, self._context.vocabulary)
        now = event.occurred_at
        if isinstance(event, CompellingEvent) and event.status == "withdrawn":
            for enrollment in list(self._enrollments.values()):
                if enrollment.event.get("event_id") == event.event_id:
                    self._exit(end_enrollment(enrollment, "exited", "event withdrawn"), now)
        for enrollment in list(self._enrollments.values()):
            if not concerns_enrollment(self._program, enrollment, [event]):
                continue
            reason = exit_reason_from_events(self._program, enrollment, [event])
            if reason and enrollment.status == "active":
                self._exit(end_enrollment(enrollment, "exited", reason), now)
            else:
                self._advance(enrollment, now)
        if now >= self._start and event_starts_play(self._program, event, now):
            self._enter(cause_from_event(event), now, earlier)

    def _enter(self, cause: EntryCause, now: int, earlier: list[PastEnrollment]) -> None:
        entered = try_enroll(self._program, cause, self._facts, earlier, now)
        if isinstance(entered, Enrollment) and entered.enrollment_id not in self._enrollments:
            self._add_step(now, "held out" if entered.status == "holdout" else "entered")
            self._enrollments[entered.enrollment_id] = entered
            earlier.append(PastEnrollment(entered.entered_at, entered.status))
            if entered.status == "active":
                self._advance(entered, now)

    def _advance(self, enrollment: Enrollment, now: int) -> None:
        goal = self._program.play.goal
        at = goal_reached_at(self._program, goal, enrollment, self._facts, now) if goal else None
        if at is not None and enrollment.goal_at is None:
            self._add_step(at, "reached the goal")
        enrollment = msgspec.structs.replace(enrollment, goal_at=at)
        progress = (
            advance_enrollment(self._program, enrollment, self._facts, now)
            if enrollment.status == "active"
            else AdvancedEnrollment(enrollment)
        )
        enrollment_id = enrollment.enrollment_id
        self._enrollments[enrollment_id] = progress.enrollment
        self._pending += [(due, enrollment_id, action) for action, due in progress.due_actions]
        if enrollment.status == "active" and progress.enrollment.status == "exited":
            self._exit(progress.enrollment, now)

    def _exit(self, enrollment: Enrollment, now: int) -> None:
        self._enrollments[enrollment.enrollment_id] = enrollment
        self._add_step(now, "left", reason=enrollment.reason)
        for pending in [p for p in self._pending if p[1] == enrollment.enrollment_id]:
            self._pending.remove(pending)
            self._add_step(now, "skipped", pending[2].action, enrollment.reason)

    def _decide(self, enrollment_id: str, action: ActionSpec, now: int) -> None:
        enrollment = self._enrollments[enrollment_id]
        reason = exit_reason(self._program, enrollment, self._facts, now)
        if reason:
            self._add_step(now, "skipped", action.action, reason)
            if enrollment.status == "active":
                self._exit(end_enrollment(enrollment, "exited", reason), now)
            return
        facts = self._facts
        item = offer_content(action, self._context.contents, facts).item
        today = sum(at // DAY == now // DAY for at in self._sent)
        week = sum(at // DAY > now // DAY - 7 for at in self._sent)
        unfit = "no_content" if action.content is not None and item is None else ""
        request = build_gate_request(action, facts, "there", (today, week), unfit=unfit)
        verdict = check_gate(request, self._context.rules, now)
        if verdict.status == "held":
            self._pending.append((verdict.until, enrollment_id, action))
        if verdict.status == "send":
            if action.channel == "email" and action.purpose == "marketing":
                self._sent.append(now)
            if item is not None:
                self._facts = msgspec.structs.replace(
                    facts, seen_content={**facts.seen_content, item.content: now}
                )
        what = "sent" if verdict.status == "send" else verdict.status
        self._add_step(now, what, action.action, verdict.reason)

    def _add_step(self, at: int, what: str, step: str = "", reason: str = "") -> None:
        self._steps.append(SimulatedStep(at, self._history.contact_id, what, step, reason))
