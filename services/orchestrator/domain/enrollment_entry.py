"""Entry into plays: matching of events against triggers, entry criteria and exit rules."""

from collections.abc import Mapping, Sequence

import msgspec

from libs.common import ids
from libs.common.messages import CompellingEvent, Signal, StageChange
from libs.common.messages.stage_change import ORDINARY_REASONS
from services.orchestrator.domain.condition_evaluator import condition_holds
from services.orchestrator.domain.contact_facts import ContactFacts
from services.orchestrator.domain.enrollment import Enrollment
from services.orchestrator.domain.entry_cause import EntryCause, TriggerEvent
from services.orchestrator.domain.ledger_ids import enrollment_id, in_holdout
from services.orchestrator.domain.play import StageMatch
from services.orchestrator.domain.play_program import EventWaitInstruction, PlayProgram
from services.orchestrator.domain.segment import entry_signal


class PastEnrollment(msgspec.Struct, frozen=True):
    """A contact's earlier enrollment in the same play."""

    entered_at: int
    status: str


def event_starts_play(program: PlayProgram, event: TriggerEvent, now: int) -> bool:
    """Return whether an event starts a play: it matches the trigger, is live and recent enough."""
    if now - event.occurred_at > program.play.max_age:
        return False
    trigger = program.play.trigger
    if isinstance(event, Signal):
        trigger_signal = (
            trigger.signal if trigger.segment is None else entry_signal(trigger.segment)
        )
        return event.signal == trigger_signal and not event.historical
    if isinstance(event, CompellingEvent):
        match = trigger.compelling_event
        return match is not None and event.kind == match.kind and event.status in match.on
    return trigger.stage_change is not None and stage_change_matches(trigger.stage_change, event)


def stage_change_matches(match: StageMatch, event: StageChange) -> bool:
    """Return whether a stage change matches; corrections and history never do."""
    if event.reason not in ORDINARY_REASONS or event.cycle != match.cycle:
        return False
    if match.axis is None:
        before, after, direction = event.stage.from_, event.stage.to, event.direction
    else:
        axis = event.axes.get(match.axis)
        if axis is None:
            return False
        before, after, direction = axis.from_, axis.to, axis.direction
    return (
        match.to in (None, after)
        and match.from_ in (None, before)
        and match.direction in (None, direction)
        and (match.axis is None or before != after)
    )


def try_enroll(
    program: PlayProgram,
    entry_cause: EntryCause,
    facts: ContactFacts,
    earlier: Sequence[PastEnrollment],
    now: int,
) -> Enrollment | str:
    """Return the enrollment that a cause starts, or the reason why it starts none.

    The enrollment of a contact in the holdout ends at once, with status `holdout`.
    """
    play = program.play
    if play.re_entry == "never" and earlier:
        return "entered before"
    if play.re_entry == "after_exit" and any(past.status == "active" for past in earlier):
        return "still in it"
    if play.cool_down and any(now - past.entered_at < play.cool_down for past in earlier):
        return "cooling down"
    if program.entry is not None and not condition_holds(program.entry, facts, now):
        return "entry criteria"
    contact_id, workspace = facts.contact_id, entry_cause.workspace
    cause = entry_cause.id
    if entry_cause.of_many:
        cause = ids.derive_id("matched", cause, contact_id)
    enrollment = Enrollment(
        enrollment_id(workspace, play.play, contact_id, cause, play.re_entry), workspace,
        contact_id, play.play, program.number, cause, entry_cause.at, entry_cause.event,
        since=now, due_at=now,
    )  # fmt: skip
    if in_holdout(play.play, contact_id, play.holdout):
        return msgspec.structs.replace(enrollment, status="holdout", reason="holdout", due_at=None)
    return enrollment


def exit_reason_from_events(
    program: PlayProgram, enrollment: Enrollment, events: Sequence[TriggerEvent]
) -> str:
    """Return the reason why stage changes end an enrollment, or an empty string.

    Exits by signal and by condition are evaluated on the facts (`exit_reason`).
    """
    for rule in program.play.exits:
        for event in events:
            if (
                isinstance(event, StageChange)
                and rule.stage_change is not None
                and event.occurred_at >= enrollment.entered_at
                and event.id != enrollment.cause
                and stage_change_matches(rule.stage_change, event)
            ):
                return f"exit: {event.stage.from_ or 'nothing'} to {event.stage.to}"
    return ""


def concerns_enrollment(
    program: PlayProgram, enrollment: Enrollment, events: Sequence[TriggerEvent]
) -> bool:
    """Return whether events may end an enrollment, reach its goal or advance it."""
    play = program.play
    if any(rule.when or rule.stage_change for rule in play.exits) or (play.goal and play.goal.when):
        return True
    awaited = {rule.signal for rule in play.exits} | ({play.goal.signal} if play.goal else set())
    step = (
        program.code[enrollment.place]
        if enrollment.status == "active" and enrollment.place < len(program.code)
        else None
    )
    if isinstance(step, EventWaitInstruction):
        if step.test is not None:
            return True
        awaited.add(step.signal)
    return any(isinstance(event, Signal) and event.signal in awaited for event in events)


def index_by_trigger(programs: Sequence[PlayProgram]) -> Mapping[str, Sequence[PlayProgram]]:
    """Return the plays with published triggers by `trigger_key`."""
    by_key: dict[str, list[PlayProgram]] = {}
    for program in programs:
        trigger = program.play.trigger
        if trigger.stage_change is not None:
            key = f"cycle:{trigger.stage_change.cycle}"
        elif trigger.compelling_event is not None:
            key = f"event:{trigger.compelling_event.kind}"
        elif trigger.signal is not None:
            key = trigger.signal
        elif trigger.segment is not None:
            key = entry_signal(trigger.segment)
        else:
            continue
        by_key.setdefault(key, []).append(program)
    return by_key


def trigger_key(event: TriggerEvent) -> str:
    """Return an event's key: `event:KIND`, `cycle:CYCLE` or the name of a signal."""
    if isinstance(event, CompellingEvent):
        return f"event:{event.kind}"
    return event.signal if isinstance(event, Signal) else f"cycle:{event.cycle}"


def is_timed(program: PlayProgram) -> bool:
    """Return whether a play starts at an instant (silence, date, schedule) and not by an event."""
    return program.play.trigger.is_timed or program.play.trigger.schedule is not None
