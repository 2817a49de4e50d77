"""A play as a flat list of instructions, so that an enrollment's position is one number.

Instructions never jump backwards, so every enrollment ends. Compiling the same play gives the same
numbers, and versions never change, so stored numbers stay valid.
"""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from libs.common.conditions import Condition, Place, referenced_signals
from services.orchestrator.domain.action_spec import ActionSpec
from services.orchestrator.domain.condition_evaluator import ConditionTest, compile_condition
from services.orchestrator.domain.local_time import WEEKDAYS
from services.orchestrator.domain.play import (
    BranchStep,
    EventWait,
    ExitStep,
    LocalTimeWait,
    Play,
    SplitStep,
    Step,
    WaitStep,
    WaitUntilStep,
)


class ActionInstruction(msgspec.Struct, frozen=True):
    """Decide an action, and go on."""

    action: ActionSpec


class WaitInstruction(msgspec.Struct, frozen=True):
    """Go on after so long (µs)."""

    length: int


class LocalTimeInstruction(msgspec.Struct, frozen=True):
    """Go on at a local time."""

    when: LocalTimeWait
    weekdays: frozenset[str]


class EventWaitInstruction(msgspec.Struct, frozen=True):
    """Go on to `met` when it happens, to `late` when the time is over (µs)."""

    signal: str | None
    test: ConditionTest | None
    timeout: int
    met: int
    timed_out: int


class BranchInstruction(msgspec.Struct, frozen=True):
    """Continue with the next instruction if the condition holds, else at `otherwise`."""

    test: ConditionTest
    otherwise: int


class SplitInstruction(msgspec.Struct, frozen=True):
    """Continue at the place of the contact's arm; `parts` are (name, share, place).

    A contact outside the shares continues at `otherwise`.
    """

    number: int
    parts: tuple[tuple[str, float, int], ...]
    otherwise: int


class JumpInstruction(msgspec.Struct, frozen=True):
    """Go on at a place."""

    to: int


class ExitInstruction(msgspec.Struct, frozen=True):
    """Leave, with a reason."""

    reason: str


Instruction = (
    ActionInstruction
    | WaitInstruction
    | LocalTimeInstruction
    | EventWaitInstruction
    | BranchInstruction
    | SplitInstruction
    | JumpInstruction
    | ExitInstruction
)


class PlayProgram(msgspec.Struct, frozen=True):
    """A play, ready to run. `number` is that of its version."""

    play: Play
    number: int
    code: tuple[Instruction, ...]
    entry: ConditionTest | None
    exits: tuple[ConditionTest | None, ...]
    """Of each exit its condition, None for those that are events."""
    goal: ConditionTest | None
    actions: Mapping[str, ActionSpec]
    members: Mapping[str, ConditionTest] = {}
    """Of each action that adds to an audience, who belongs to it."""


def compile_play(play: Play, number: int, segments: Mapping[str, Condition]) -> PlayProgram:
    """Compile a play. Raises ValueError naming the place that is wrong."""
    code: list[Instruction] = []
    _block(play.steps, code, segments)
    actions: dict[str, ActionSpec] = {}
    for instruction in code:
        if isinstance(instruction, ActionInstruction):
            action = instruction.action
            if action.action in actions:
                raise ValueError(f"two actions are called {action.action!r}")
            actions[action.action] = action
    return PlayProgram(
        play,
        number,
        tuple(code),
        compile_condition(play.entry, segments) if play.entry else None,
        tuple(compile_condition(rule.when, segments) if rule.when else None for rule in play.exits),
        compile_condition(play.goal.when, segments) if play.goal and play.goal.when else None,
        actions,
        {
            name: compile_condition(member, segments)
            for name, action in actions.items()
            if (member := _member(action))
        },
    )


def _member(action: ActionSpec) -> Condition | None:
    return action.audience.member if action.audience else None


def iter_conditions(play: Play) -> Iterator[tuple[Place, Condition]]:
    """Yield every condition of a play with its place."""
    if play.entry:
        yield ("entry",), play.entry
    for number, rule in enumerate(play.exits):
        if rule.when:
            yield ("exits", number, "when"), rule.when
    if play.goal and play.goal.when:
        yield ("goal", "when"), play.goal.when
    yield from _conditions(play.steps, ("steps",))


def iter_actions(steps: Sequence[Step]) -> Iterator[ActionSpec]:
    """Yield every action of steps, whichever way leads to it."""
    for step in steps:
        if isinstance(step, ActionSpec):
            yield step
        for inner in _inner(step):
            yield from iter_actions(inner)


def signals_of_play(play: Play) -> set[str]:
    """Return every signal that a play names."""
    signals = {
        play.trigger.signal,
        play.goal.signal if play.goal else None,
        *(rule.signal for rule in play.exits),
    }
    if play.trigger.silence:
        signals.add(play.trigger.silence.of)
    for step in _waits(play.steps):
        signals.add(step.signal)
    for _, condition in iter_conditions(play):
        signals |= referenced_signals(condition)
    return {signal for signal in signals if signal is not None}


def _waits(steps: Sequence[Step]) -> Iterator[EventWait]:
    for step in steps:
        if isinstance(step, WaitUntilStep) and isinstance(step.wait_until, EventWait):
            yield step.wait_until
        for inner in _inner(step):
            yield from _waits(inner)


def _inner(step: Step) -> Iterator[Sequence[Step]]:
    """Yield the steps that stand in a step."""
    if isinstance(step, WaitUntilStep):
        yield step.timed_out
    elif isinstance(step, BranchStep):
        yield from (case.steps for case in step.branch)
        yield step.otherwise
    elif isinstance(step, SplitStep):
        yield from (share.steps for share in step.split.values())


def _conditions(steps: Sequence[Step], where: Place) -> Iterator[tuple[Place, Condition]]:
    for number, step in enumerate(steps):
        here = (*where, number)
        if isinstance(step, ActionSpec) and (member := _member(step)):
            yield (*here, "audience", "member"), member
        elif isinstance(step, WaitUntilStep):
            if isinstance(step.wait_until, EventWait) and step.wait_until.when:
                yield (*here, "wait_until", "when"), step.wait_until.when
            yield from _conditions(step.timed_out, (*here, "timed_out"))
        elif isinstance(step, BranchStep):
            for case_number, case in enumerate(step.branch):
                yield (*here, "branch", case_number, "when"), case.when
                yield from _conditions(case.steps, (*here, "branch", case_number, "steps"))
            yield from _conditions(step.otherwise, (*here, "otherwise"))
        elif isinstance(step, SplitStep):
            for name, share in step.split.items():
                yield from _conditions(share.steps, (*here, "split", name, "steps"))


def _block(
    steps: Sequence[Step], code: list[Instruction], segments: Mapping[str, Condition]
) -> None:
    for step in steps:
        if isinstance(step, WaitStep):
            code.append(WaitInstruction(step.wait))
        elif isinstance(step, ActionSpec):
            code.append(ActionInstruction(step))
        elif isinstance(step, ExitStep):
            code.append(ExitInstruction(step.exit))
        elif isinstance(step, WaitUntilStep):
            _wait(step, code, segments)
        elif isinstance(step, BranchStep):
            _branch(step, code, segments)
        else:
            _split(step, code, segments)


def _wait(step: WaitUntilStep, code: list[Instruction], segments: Mapping[str, Condition]) -> None:
    wait = step.wait_until
    if isinstance(wait, LocalTimeWait):
        code.append(LocalTimeInstruction(wait, frozenset(wait.weekdays or WEEKDAYS)))
        return
    place = len(code)
    code.append(JumpInstruction(0))
    _block(step.timed_out, code, segments)
    test = compile_condition(wait.when, segments) if wait.when else None
    code[place] = EventWaitInstruction(wait.signal, test, wait.timeout, len(code), place + 1)


def _branch(step: BranchStep, code: list[Instruction], segments: Mapping[str, Condition]) -> None:
    ends: list[int] = []
    for case in step.branch:
        place = len(code)
        code.append(JumpInstruction(0))
        _block(case.steps, code, segments)
        ends.append(len(code))
        code.append(JumpInstruction(0))
        code[place] = BranchInstruction(compile_condition(case.when, segments), len(code))
    _block(step.otherwise, code, segments)
    for end in ends:
        code[end] = JumpInstruction(len(code))


def _split(step: SplitStep, code: list[Instruction], segments: Mapping[str, Condition]) -> None:
    place = len(code)
    code.append(JumpInstruction(0))
    parts: list[tuple[str, float, int]] = []
    ends: list[int] = []
    for name, share in step.split.items():
        parts.append((name, share.share, len(code)))
        _block(share.steps, code, segments)
        ends.append(len(code))
        code.append(JumpInstruction(0))
    for end in ends:
        code[end] = JumpInstruction(len(code))
    code[place] = SplitInstruction(place, tuple(parts), len(code))
