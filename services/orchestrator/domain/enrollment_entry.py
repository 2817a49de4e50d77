"""What starts a play, and what ends or wakes one: events matched against what plays wait for."""

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
    """A contact's earlier run of a play."""

    entered_at: int
    status: str


def event_starts_play(program: PlayProgram, event: TriggerEvent, now: int) -> bool:
    """Return whether an event starts a play: it fits, it is no history, and it is young enough."""
    if now - event.occurred_at > program.play.max_age:
        return False
    trigger = program.play.trigger
    if isinstance(event, Signal):
        wanted_signal = trigger.signal if trigger.segment is None else entry_signal(trigger.segment)
        return event.signal == wanted_signal and not event.historical
    if isinstance(event, CompellingEvent):
        wanted = trigger.compelling_event
        return wanted is not None and event.kind == wanted.kind and event.status in wanted.on
    return trigger.stage_change is not None and stage_change_matches(trigger.stage_change, event)


def stage_change_matches(wanted: StageMatch, event: StageChange) -> bool:
    """Return whether a stage change is one that is meant: corrections and history never are."""
    if event.reason not in ORDINARY_REASONS or event.cycle != wanted.cycle:
        return False
    if wanted.axis is None:
        before, after, direction = event.stage.from_, event.stage.to, event.direction
    else:
        axis = event.axes.get(wanted.axis)
        if axis is None:
            return False
        before, after, direction = axis.from_, axis.to, axis.direction
    return (
        wanted.to in (None, after)
        and wanted.from_ in (None, before)
        and wanted.direction in (None, direction)
        and (wanted.axis is None or before != after)
    )


def try_enroll(
    program: PlayProgram,
    occasion: EntryCause,
    facts: ContactFacts,
    earlier: Sequence[PastEnrollment],
    now: int,
) -> Enrollment | str:
    """Return the run that an occasion starts, or why it starts none. Who is held out has one that ends at once."""
    play = program.play
    if play.re_entry == "never" and earlier:
        return "entered before"
    if play.re_entry == "after_exit" and any(one.status == "active" for one in earlier):
        return "still in it"
    if play.cool_down and any(now - one.entered_at < play.cool_down for one in earlier):
        return "cooling down"
    if program.entry is not None and not condition_holds(program.entry, facts, now):
        return "entry criteria"
    cause = (
        ids.derive_id("matched", occasion.id, facts.contact_id) if occasion.of_many else occasion.id
    )
    made = enrollment_id(occasion.workspace, play.play, facts.contact_id, cause, play.re_entry)
    run = Enrollment(
        made, occasion.workspace, facts.contact_id, play.play, program.number, cause, occasion.at, occasion.told,
        since=now, due_at=now,
    )  # fmt: skip
    if in_holdout(play.play, facts.contact_id, play.holdout):
        return msgspec.structs.replace(run, status="holdout", reason="holdout", due_at=None)
    return run


def exit_reason_from_events(
    program: PlayProgram, run: Enrollment, events: Sequence[TriggerEvent]
) -> str:
    """Return why these events end a run, or nothing. Exits by signal are seen in the facts; these are the moves."""
    for one in program.play.exits:
        for event in events:
            if (
                isinstance(event, StageChange)
                and one.stage_change is not None
                and event.occurred_at >= run.entered_at
                and event.id != run.cause
                and stage_change_matches(one.stage_change, event)
            ):
                return f"exit: {event.stage.from_ or 'nothing'} to {event.stage.to}"
    return ""


def concerns_enrollment(
    program: PlayProgram, run: Enrollment, events: Sequence[TriggerEvent]
) -> bool:
    """Return whether a run has to be looked at because of these events: it may leave, reach its goal, or go on."""
    play = program.play
    if any(one.when or one.stage_change for one in play.exits) or (play.goal and play.goal.when):
        return True
    awaited = {one.signal for one in play.exits} | ({play.goal.signal} if play.goal else set())
    step = (
        program.code[run.place]
        if run.status == "active" and run.place < len(program.code)
        else None
    )
    if isinstance(step, EventWaitInstruction):
        if step.test is not None:
            return True
        awaited.add(step.signal)
    return any(isinstance(event, Signal) and event.signal in awaited for event in events)


def index_by_trigger(programs: Sequence[PlayProgram]) -> Mapping[str, Sequence[PlayProgram]]:
    """Return the plays by what is published that starts them: a signal's name, `cycle:` and a cycle's, `event:` and a kind."""
    found: dict[str, list[PlayProgram]] = {}
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
        found.setdefault(key, []).append(program)
    return found


def trigger_key(event: TriggerEvent) -> str:
    """Return the key of an event in `by_trigger`."""
    if isinstance(event, CompellingEvent):
        return f"event:{event.kind}"
    return event.signal if isinstance(event, Signal) else f"cycle:{event.cycle}"


def is_timed(program: PlayProgram) -> bool:
    """Return whether a play starts by a moment and by nothing that is published."""
    return program.play.trigger.is_timed or program.play.trigger.schedule is not None
