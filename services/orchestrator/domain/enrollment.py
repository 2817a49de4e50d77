"""Progress of an enrollment: a pure function of the program, the enrollment, the facts and `now`.

`advance_enrollment` runs instructions until one has to wait. A wait counts from the instant at
which it was reached, not from its evaluation, so consecutive waits do not drift. After an outage
longer than `ACTION_GRACE` a wait counts from now, or a week's mails would go out together.
"""

from collections.abc import Sequence
from datetime import time, timedelta
from typing import Any, Literal

import msgspec

from libs.common import ids
from libs.common.conditions import Condition
from libs.common.decay import FOREVER
from libs.common.durations import parse_duration
from libs.common.ids import ContactId, WorkspaceId
from libs.common.instants import DAY, from_iso
from services.orchestrator.domain.action_spec import ActionSpec
from services.orchestrator.domain.condition_evaluator import condition_holds
from services.orchestrator.domain.contact_facts import ContactFacts
from services.orchestrator.domain.local_time import (
    load_time_zone,
    local_instant,
    next_local_time,
    to_local,
)
from services.orchestrator.domain.play import Goal, Play
from services.orchestrator.domain.play_program import (
    ActionInstruction,
    BranchInstruction,
    EventWaitInstruction,
    ExitInstruction,
    Instruction,
    JumpInstruction,
    LocalTimeInstruction,
    PlayProgram,
    SplitInstruction,
    WaitInstruction,
)

ACTION_GRACE = parse_duration("1h")
"""Delay of an evaluation that is still taken as punctual (µs)."""
MONTH = 30
"""Days."""
EnrollmentStatus = Literal["active", "completed", "exited", "holdout"]


class Enrollment(msgspec.Struct, frozen=True):
    """One contact's run of one version of a play. Instants in µs UTC.

    `place` is the index of the next instruction, reached at `since`; the enrollment is idle until
    `due_at`. `event` is the data of the cause for templates.
    """

    enrollment_id: str
    workspace: WorkspaceId
    contact_id: ContactId
    play: str
    number: int
    cause: str
    entered_at: int
    event: dict[str, Any] = {}
    status: EnrollmentStatus = "active"
    reason: str = ""
    place: int = 0
    since: int = 0
    due_at: int | None = None
    goal_at: int | None = None


class AdvancedEnrollment(msgspec.Struct, frozen=True):
    """The advanced enrollment, and its new actions with the instants at which they are due."""

    enrollment: Enrollment
    due_actions: Sequence[tuple[ActionSpec, int]] = ()


def action_priority(play: Play, enrollment: Enrollment, due: int) -> int:
    """Return the priority of an action among actions for the same slot; the highest goes first.

    The nearing date of a compelling event raises the play's priority: by 0 a month before the date,
    by 30 on its day, and by nothing afterwards.
    """
    date = enrollment.event.get("date")
    if not enrollment.event.get("event_id") or not isinstance(date, str):
        return play.priority
    days_left = (from_iso(date) + DAY - 1 - due) // DAY
    return play.priority + (MONTH - days_left if 0 <= days_left <= MONTH else 0)


def advance_enrollment(
    program: PlayProgram, enrollment: Enrollment, facts: ContactFacts, now: int
) -> AdvancedEnrollment:
    """Run an active enrollment up to its next wait or its end."""
    reason = exit_reason(program, enrollment, facts, now)
    if reason:
        return AdvancedEnrollment(end_enrollment(enrollment, "exited", reason))
    due_actions: list[tuple[ActionSpec, int]] = []
    place, since = enrollment.place, enrollment.since
    while place < len(program.code):
        step = program.code[place]
        if isinstance(step, ActionInstruction):
            due_actions.append((step.action, since))
            place += 1
        elif isinstance(step, ExitInstruction):
            return AdvancedEnrollment(
                end_enrollment(
                    msgspec.structs.replace(enrollment, place=place, since=since),
                    "completed",
                    step.reason,
                ),
                due_actions,
            )
        elif isinstance(step, EventWaitInstruction | WaitInstruction | LocalTimeInstruction):
            next_place, due = _evaluate_wait(step, place, since, facts, now)
            if next_place is None:
                return AdvancedEnrollment(
                    msgspec.structs.replace(enrollment, place=place, since=since, due_at=due),
                    due_actions,
                )
            place, since = next_place, now if now - due > ACTION_GRACE else due
        else:
            place = _next_place(step, program, place, facts, now)
    return AdvancedEnrollment(
        end_enrollment(
            msgspec.structs.replace(enrollment, place=place, since=since),
            "completed",
            "all steps done",
        ),
        due_actions,
    )


def exit_reason(program: PlayProgram, enrollment: Enrollment, facts: ContactFacts, now: int) -> str:
    """Return the reason why an enrollment ends now, or an empty string.

    Reasons are the signal or the condition of an exit rule, and a goal that ends the play.
    """
    for rule, test in zip(program.play.exits, program.exits, strict=True):
        if rule.signal is not None and (facts.last_seen(rule.signal) or 0) > enrollment.entered_at:
            return f"exit: {rule.signal}"
        if rule.when is not None and test is not None and condition_holds(test, facts, now):
            return f"exit: {_condition_text(rule.when)}"
    goal = program.play.goal
    if (
        goal is not None
        and goal.ends
        and goal_reached_at(program, goal, enrollment, facts, now) is not None
    ):
        return "goal reached"
    return ""


def goal_reached_at(
    program: PlayProgram, goal: Goal, enrollment: Enrollment, facts: ContactFacts, now: int
) -> int | None:
    """Return the instant at which an enrollment reached its goal in time, or None."""
    if enrollment.goal_at is not None:
        return enrollment.goal_at
    end = enrollment.entered_at + goal.within
    if goal.signal is not None:
        return next(
            (at for at in facts.signals.get(goal.signal, ()) if enrollment.entered_at < at <= end),
            None,
        )
    return (
        now
        if program.goal is not None and now <= end and condition_holds(program.goal, facts, now)
        else None
    )


def end_enrollment(enrollment: Enrollment, status: EnrollmentStatus, reason: str) -> Enrollment:
    """Return the enrollment with its final status."""
    return msgspec.structs.replace(enrollment, status=status, reason=reason, due_at=None)


def _evaluate_wait(
    step: EventWaitInstruction | WaitInstruction | LocalTimeInstruction,
    place: int,
    since: int,
    facts: ContactFacts,
    now: int,
) -> tuple[int | None, int]:
    """Return (next place, end) of a finished wait, or (None, instant of the next evaluation)."""
    if isinstance(step, EventWaitInstruction):
        return _evaluate_event_wait(step, since, facts, now)
    if isinstance(step, WaitInstruction):
        due = since + step.length
    else:
        zone = load_time_zone(facts.time_zone)
        earliest = since
        if step.when.days:  # calendar days, whatever the hour
            day = to_local(since, zone).date() + timedelta(days=step.when.days)
            earliest = max(since, local_instant(day, time(0), zone))
        due = next_local_time(earliest, step.when.time, zone, step.weekdays)
    return (place + 1 if now >= due else None), due


def _evaluate_event_wait(
    step: EventWaitInstruction, since: int, facts: ContactFacts, now: int
) -> tuple[int | None, int]:
    deadline = since + step.timeout
    if step.signal is not None:
        seen_at = next(
            (at for at in facts.signals.get(step.signal, ()) if since < at <= deadline), None
        )
        if seen_at is not None:
            return step.met, now
        horizon = FOREVER
    else:
        assert step.test is not None
        horizon = step.test(facts, now)
        if horizon > 0 and now <= deadline + ACTION_GRACE:
            return step.met, now
        horizon = abs(horizon)
    if now >= deadline:
        return step.timed_out, deadline
    return None, min(deadline, max(horizon, now + 1))


def _next_place(
    step: Instruction, program: PlayProgram, place: int, facts: ContactFacts, now: int
) -> int:
    """Return the place to which a branch, split or jump leads."""
    if isinstance(step, BranchInstruction):
        return place + 1 if condition_holds(step.test, facts, now) else step.otherwise
    if isinstance(step, SplitInstruction):
        digest = ids.derive_id("split", program.play.play, str(step.number), facts.contact_id)
        draw, total = int(digest[:8], 16) / (1 << 32), 0.0
        for _, share, to in step.parts:
            total += share
            if draw < total:
                return to
        return step.otherwise
    assert isinstance(step, JumpInstruction)
    return step.to


def _condition_text(condition: Condition) -> str:
    return msgspec.json.encode(condition.written).decode()[:160]
