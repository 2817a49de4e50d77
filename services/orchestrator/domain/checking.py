"""Whether every word of a play means something: what it names has to be there before it is published."""

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial

import msgspec

from libs.common.errors import ConfigurationError
from services.orchestrator.domain.condition import Condition, check
from services.orchestrator.domain.play import Play, StageMatch
from services.orchestrator.domain.program import Program, conditions, program_of
from services.orchestrator.domain.reading import Place, fault, read
from services.orchestrator.domain.vocabulary import Vocabulary


class Names(msgspec.Struct, frozen=True):
    """What a play may name."""

    vocabulary: Vocabulary
    segments: Mapping[str, Condition] = {}
    destinations: Mapping[str, str] | None = None
    """{name: channel}; None: whatever is named will do."""
    contents: Collection[str] = ()


def checked(text: str, where: str, names: Names) -> Play:
    """Return the play of a text. Raises ConfigurationError with a line for each fault: `where:line: place: what`."""
    play = read(Play, text, where)
    faults = [fault(text, where, place, why) for place, ask in _questions(play, names) if (why := _why(ask))]
    if not faults:
        try:
            faults = [f"{where}: {why}" for why in _actions(program_of(play, 0, names.segments), names)]
        except ValueError as error:
            faults = [f"{where}: {error}"]
    if faults:
        raise ConfigurationError("\n".join(faults))
    return play


def _questions(play: Play, names: Names) -> Iterator[tuple[Place, Callable[[], object]]]:
    """Yield each place that names something, with what raises ValueError when there is nothing of that name."""
    words = names.vocabulary
    if play.trigger.signal is not None:
        yield ("trigger", "signal"), partial(words.signal, play.trigger.signal)
    if play.trigger.stage_change is not None:
        yield ("trigger", "stage_change"), partial(_move, play.trigger.stage_change, words)
    silence, segment = play.trigger.silence, play.trigger.segment
    if silence is not None and silence.of != "any":
        yield ("trigger", "silence", "of"), partial(words.signal, silence.of)
    if segment is not None:
        yield ("trigger", "segment"), partial(check, {"segment": segment}, names.segments, words)
    for number, one in enumerate(play.exits):
        if one.signal is not None:
            yield ("exits", number, "signal"), partial(words.signal, one.signal)
        if one.stage_change is not None:
            yield ("exits", number, "stage_change"), partial(_move, one.stage_change, words)
    if play.goal is not None and play.goal.signal is not None:
        yield ("goal", "signal"), partial(words.signal, play.goal.signal)
    for place, condition in conditions(play):
        yield place, partial(check, condition, names.segments, words)


def _why(ask: Callable[[], object]) -> str:
    try:
        ask()
    except ValueError as error:
        return str(error)
    return ""


def _move(move: StageMatch, words: Vocabulary) -> None:
    for name in filter(None, (move.from_, move.to)):
        if move.axis is None:
            words.stages(move.cycle, [name])
        else:
            words.place(move.cycle, move.axis, name)
    words.cycle(move.cycle)


def _actions(program: Program, names: Names) -> Iterator[str]:
    for action in program.actions.values():
        if action.destination and names.destinations is not None:
            channel = names.destinations.get(action.destination)
            if channel is None:
                yield f"action {action.action}: no destination {action.destination!r} is defined"
            elif channel != action.channel:
                yield f"action {action.action}: destination {action.destination!r} is one of another channel"
        if action.content and action.content.fallback and action.content.fallback not in names.contents:
            yield f"action {action.action}: no content {action.content.fallback!r} is defined"
