"""How an enrollment goes on: a pure function of its program, where it stands, what is known of the contact, and the instant.

`proceed` runs instructions until one has to wait. A wait counts from the instant at which it was reached, not from when somebody
looked, so waits in a row do not drift; only after an outage (`LATE`) they count from now: else a week's mails went out together.
"""

from collections.abc import Sequence
from datetime import time, timedelta
from typing import Any, Literal

import msgspec

from libs.common import ids
from libs.common.conditions import Condition
from libs.common.decay import FOREVER
from libs.common.durations import parse_duration
from libs.common.instants import DAY, from_iso
from services.orchestrator.domain.action import ActionSpec
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
MONTH = 30
EnrollmentStatus = Literal["active", "completed", "exited", "holdout"]


class Enrollment(msgspec.Struct, frozen=True):
    """One enrollment: a contact's run of one version of a play. Instants in µs UTC.

    `place` is the instruction before it, reached at `since`; nothing happens before `due_at`. `event` is what the templates may
    say of the cause.
    """

    enrollment_id: str
    workspace: str
    contact_id: str
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


class EnrollmentProgress(msgspec.Struct, frozen=True):
    """Where the run stands then, and the actions it has come by, each with the instant at which it is due."""

    run: Enrollment
    acts: Sequence[tuple[ActionSpec, int]] = ()


def action_priority(play: Play, run: Enrollment, due: int) -> int:
    """Return who goes first when two actions want the same place: the nearer the date of a compelling event, the sooner.

    When an action is due a month before the date that adds nothing, on the last day it adds 30, and afterwards nothing.
    """
    date = run.event.get("date")
    if not run.event.get("event_id") or not isinstance(date, str):
        return play.priority
    left = (from_iso(date) + DAY - 1 - due) // DAY
    return play.priority + (MONTH - left if 0 <= left <= MONTH else 0)


def advance_enrollment(
    program: PlayProgram, run: Enrollment, facts: ContactFacts, now: int
) -> EnrollmentProgress:
    """Go on with an active run as far as it goes."""
    reason = exit_reason(program, run, facts, now)
    if reason:
        return EnrollmentProgress(end_enrollment(run, "exited", reason))
    acts: list[tuple[ActionSpec, int]] = []
    place, since = run.place, run.since
    while place < len(program.code):
        step = program.code[place]
        if isinstance(step, ActionInstruction):
            acts.append((step.action, since))
            place += 1
        elif isinstance(step, ExitInstruction):
            return EnrollmentProgress(
                end_enrollment(
                    msgspec.structs.replace(run, place=place, since=since), "completed", step.reason
                ),
                acts,
            )
        elif isinstance(step, EventWaitInstruction | WaitInstruction | LocalTimeInstruction):
            reached, due = _waited(step, place, since, facts, now)
            if reached is None:
                return EnrollmentProgress(
                    msgspec.structs.replace(run, place=place, since=since, due_at=due), acts
                )
            place, since = reached, now if now - due > ACTION_GRACE else due
        else:
            place = _turned(step, program, place, facts, now)
    return EnrollmentProgress(
        end_enrollment(
            msgspec.structs.replace(run, place=place, since=since), "completed", "all steps done"
        ),
        acts,
    )


def exit_reason(program: PlayProgram, run: Enrollment, facts: ContactFacts, now: int) -> str:
    """Return why a run ends before its next step acts, or nothing: an exit's signal since the entry, or its condition."""
    for one, test in zip(program.play.exits, program.exits, strict=True):
        if one.signal is not None and (facts.last_seen(one.signal) or 0) > run.entered_at:
            return f"exit: {one.signal}"
        if one.when is not None and test is not None and condition_holds(test, facts, now):
            return f"exit: {_shown(one.when)}"
    goal = program.play.goal
    if (
        goal is not None
        and goal.ends
        and goal_reached_at(program, goal, run, facts, now) is not None
    ):
        return "goal reached"
    return ""


def goal_reached_at(
    program: PlayProgram, goal: Goal, run: Enrollment, facts: ContactFacts, now: int
) -> int | None:
    """Return when a run reached its goal, None if it has not, or not in time."""
    if run.goal_at is not None:
        return run.goal_at
    end = run.entered_at + goal.within
    if goal.signal is not None:
        return next(
            (at for at in facts.signals.get(goal.signal, ()) if run.entered_at < at <= end), None
        )
    return (
        now
        if program.goal is not None and now <= end and condition_holds(program.goal, facts, now)
        else None
    )


def end_enrollment(run: Enrollment, status: EnrollmentStatus, reason: str) -> Enrollment:
    """Return the run as it ends."""
    return msgspec.structs.replace(run, status=status, reason=reason, due_at=None)


def _waited(
    step: EventWaitInstruction | WaitInstruction | LocalTimeInstruction,
    place: int,
    since: int,
    facts: ContactFacts,
    now: int,
) -> tuple[int | None, int]:
    """Return where a wait that is over leads, or None, and the instant that ends it (or at which to look again)."""
    if isinstance(step, EventWaitInstruction):
        return _hoped(step, since, facts, now)
    if isinstance(step, WaitInstruction):
        due = since + step.length
    else:
        zone = load_time_zone(facts.time_zone)
        earliest = since
        if step.when.days:  # so many calendar days later, whatever the hour
            day = to_local(since, zone).date() + timedelta(days=step.when.days)
            earliest = max(since, local_instant(day, time(0), zone))
        due = next_local_time(earliest, step.when.time, zone, step.weekdays)
    return (place + 1 if now >= due else None), due


def _hoped(
    step: EventWaitInstruction, since: int, facts: ContactFacts, now: int
) -> tuple[int | None, int]:
    deadline = since + step.timeout
    if step.signal is not None:
        seen = next(
            (at for at in facts.signals.get(step.signal, ()) if since < at <= deadline), None
        )
        if seen is not None:
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


def _turned(
    step: Instruction, program: PlayProgram, place: int, facts: ContactFacts, now: int
) -> int:
    if isinstance(step, BranchInstruction):
        return place + 1 if condition_holds(step.test, facts, now) else step.otherwise
    if isinstance(step, SplitInstruction):
        drawn = ids.derive_id("split", program.play.play, str(step.number), facts.contact_id)
        lot, total = int(drawn[:8], 16) / (1 << 32), 0.0
        for _, share, to in step.parts:
            total += share
            if lot < total:
                return to
        return step.otherwise
    assert isinstance(step, JumpInstruction)
    return step.to


def _shown(condition: Condition) -> str:
    return msgspec.json.encode(condition.written).decode()[:160]
