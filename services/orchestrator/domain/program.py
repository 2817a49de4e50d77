"""A play as a flat list of instructions, so that where an enrollment stands is one number.

Instructions never jump backwards: a run ends. Compiling the same play gives the same numbers, and versions never change, so
the number that is stored stays right.
"""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from services.orchestrator.domain.action import Action
from services.orchestrator.domain.condition import Condition, Test, compiled, signals_in
from services.orchestrator.domain.moments import WEEKDAYS
from services.orchestrator.domain.play import Awaited, Branch, Leave, LocalTime, Play, Split, Step, Wait, WaitUntil


class Act(msgspec.Struct, frozen=True):
    """Decide an action, and go on."""

    action: Action


class Pause(msgspec.Struct, frozen=True):
    """Go on after so long (µs)."""

    length: int


class Appointment(msgspec.Struct, frozen=True):
    """Go on at a local time."""

    when: LocalTime
    weekdays: frozenset[str]


class Hope(msgspec.Struct, frozen=True):
    """Go on to `met` when it happens, to `late` when the time is over (µs)."""

    signal: str | None
    test: Test | None
    timeout: int
    met: int
    late: int


class Fork(msgspec.Struct, frozen=True):
    """Go on with the next if it holds, else at `otherwise`."""

    test: Test
    otherwise: int


class Lot(msgspec.Struct, frozen=True):
    """Go on where the contact's lot falls: (name, share, place) of each part, else at `otherwise`."""

    number: int
    parts: tuple[tuple[str, float, int], ...]
    otherwise: int


class Jump(msgspec.Struct, frozen=True):
    """Go on at a place."""

    to: int


class End(msgspec.Struct, frozen=True):
    """Leave, with a reason."""

    reason: str


Instruction = Act | Pause | Appointment | Hope | Fork | Lot | Jump | End


class Program(msgspec.Struct, frozen=True):
    """A play, ready to run. `number` is that of its version."""

    play: Play
    number: int
    code: tuple[Instruction, ...]
    entry: Test | None
    exits: tuple[Test | None, ...]
    """Of each exit its condition, None for those that are events."""
    goal: Test | None
    actions: Mapping[str, Action]
    members: Mapping[str, Test] = {}
    """Of each action that adds to an audience, who belongs to it."""


def program_of(play: Play, number: int, segments: Mapping[str, Condition]) -> Program:
    """Compile a play. Raises ValueError naming the place that is wrong."""
    code: list[Instruction] = []
    _block(play.steps, code, segments)
    actions: dict[str, Action] = {}
    for one in code:
        if isinstance(one, Act):
            if one.action.action in actions:
                raise ValueError(f"two actions are called {one.action.action!r}")
            actions[one.action.action] = one.action
    return Program(
        play,
        number,
        tuple(code),
        compiled(play.entry, segments) if play.entry else None,
        tuple(compiled(one.when, segments) if one.when else None for one in play.exits),
        compiled(play.goal.when, segments) if play.goal and play.goal.when else None,
        actions,
        {name: compiled(member, segments) for name, one in actions.items() if (member := _member(one))},
    )


def _member(action: Action) -> Condition | None:
    return action.audience.member if action.audience else None


def conditions(play: Play) -> Iterator[tuple[tuple[str | int, ...], Condition]]:
    """Yield every condition of a play with its place."""
    if play.entry:
        yield ("entry",), play.entry
    for number, one in enumerate(play.exits):
        if one.when:
            yield ("exits", number, "when"), one.when
    if play.goal and play.goal.when:
        yield ("goal", "when"), play.goal.when
    yield from _conditions(play.steps, ("steps",))


def actions_of(steps: Sequence[Step]) -> Iterator[Action]:
    """Yield every action of steps, whichever way leads to it."""
    for step in steps:
        if isinstance(step, Action):
            yield step
        for inner in _inner(step):
            yield from actions_of(inner)


def signals_of(play: Play) -> set[str]:
    """Return every signal that a play names."""
    found = {play.trigger.signal, play.goal.signal if play.goal else None, *(one.signal for one in play.exits)}
    if play.trigger.silence:
        found.add(play.trigger.silence.of)
    for step in _waits(play.steps):
        found.add(step.signal)
    for _, condition in conditions(play):
        found |= signals_in(condition)
    return {signal for signal in found if signal is not None}


def _waits(steps: Sequence[Step]) -> Iterator[Awaited]:
    for step in steps:
        if isinstance(step, WaitUntil) and isinstance(step.wait_until, Awaited):
            yield step.wait_until
        for inner in _inner(step):
            yield from _waits(inner)


def _inner(step: Step) -> Iterator[Sequence[Step]]:
    """Yield the steps that stand in a step."""
    if isinstance(step, WaitUntil):
        yield step.timed_out
    elif isinstance(step, Branch):
        yield from (case.steps for case in step.branch)
        yield step.otherwise
    elif isinstance(step, Split):
        yield from (share.steps for share in step.split.values())


def _conditions(
    steps: Sequence[Step], where: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], Condition]]:
    for number, step in enumerate(steps):
        here = (*where, number)
        if isinstance(step, Action) and (member := _member(step)):
            yield (*here, "audience", "member"), member
        elif isinstance(step, WaitUntil):
            if isinstance(step.wait_until, Awaited) and step.wait_until.when:
                yield (*here, "wait_until", "when"), step.wait_until.when
            yield from _conditions(step.timed_out, (*here, "timed_out"))
        elif isinstance(step, Branch):
            for case_number, case in enumerate(step.branch):
                yield (*here, "branch", case_number, "when"), case.when
                yield from _conditions(case.steps, (*here, "branch", case_number, "steps"))
            yield from _conditions(step.otherwise, (*here, "otherwise"))
        elif isinstance(step, Split):
            for name, share in step.split.items():
                yield from _conditions(share.steps, (*here, "split", name, "steps"))


def _block(steps: Sequence[Step], code: list[Instruction], segments: Mapping[str, Condition]) -> None:
    for step in steps:
        if isinstance(step, Wait):
            code.append(Pause(step.wait))
        elif isinstance(step, Action):
            code.append(Act(step))
        elif isinstance(step, Leave):
            code.append(End(step.exit))
        elif isinstance(step, WaitUntil):
            _wait(step, code, segments)
        elif isinstance(step, Branch):
            _branch(step, code, segments)
        else:
            _split(step, code, segments)


def _wait(step: WaitUntil, code: list[Instruction], segments: Mapping[str, Condition]) -> None:
    found = step.wait_until
    if isinstance(found, LocalTime):
        code.append(Appointment(found, frozenset(found.weekdays or WEEKDAYS)))
        return
    place = len(code)
    code.append(Jump(0))
    _block(step.timed_out, code, segments)
    test = compiled(found.when, segments) if found.when else None
    code[place] = Hope(found.signal, test, found.timeout, len(code), place + 1)


def _branch(step: Branch, code: list[Instruction], segments: Mapping[str, Condition]) -> None:
    ends: list[int] = []
    for case in step.branch:
        place = len(code)
        code.append(Jump(0))
        _block(case.steps, code, segments)
        ends.append(len(code))
        code.append(Jump(0))
        code[place] = Fork(compiled(case.when, segments), len(code))
    _block(step.otherwise, code, segments)
    for end in ends:
        code[end] = Jump(len(code))


def _split(step: Split, code: list[Instruction], segments: Mapping[str, Condition]) -> None:
    place = len(code)
    code.append(Jump(0))
    parts: list[tuple[str, float, int]] = []
    ends: list[int] = []
    for name, share in step.split.items():
        parts.append((name, share.share, len(code)))
        _block(share.steps, code, segments)
        ends.append(len(code))
        code.append(Jump(0))
    for end in ends:
        code[end] = Jump(len(code))
    code[place] = Lot(place, tuple(parts), len(code))
