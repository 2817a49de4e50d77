"""Whether every word of a play means something: what it names has to be there before it is published."""

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial

import msgspec

from libs.common.errors import ConfigurationError
from services.orchestrator.domain.condition import Condition, check_references
from services.orchestrator.domain.cycle_vocabulary import CycleVocabularies
from services.orchestrator.domain.document_parser import Place, format_fault, parse_document
from services.orchestrator.domain.play import Play, StageMatch
from services.orchestrator.domain.play_program import PlayProgram, compile_play, iter_conditions


class KnownNames(msgspec.Struct, frozen=True):
    """What a play may name."""

    vocabulary: CycleVocabularies
    segments: Mapping[str, Condition] = {}
    destinations: Mapping[str, str] | None = None
    """{name: channel}; None: whatever is named will do."""
    contents: Collection[str] = ()


def validate_play(text: str, where: str, names: KnownNames) -> Play:
    """Return the play of a text. Raises ConfigurationError with a line for each fault: `where:line: place: what`."""
    play = parse_document(Play, text, where)
    faults = [
        format_fault(text, where, place, why)
        for place, ask in _questions(play, names)
        if (why := _why(ask))
    ]
    if not faults:
        try:
            faults = [
                f"{where}: {why}" for why in _actions(compile_play(play, 0, names.segments), names)
            ]
        except ValueError as error:
            faults = [f"{where}: {error}"]
    if faults:
        raise ConfigurationError("\n".join(faults))
    return play


def _questions(play: Play, names: KnownNames) -> Iterator[tuple[Place, Callable[[], object]]]:
    """Yield each place that names something, with what raises ValueError when there is nothing of that name."""
    words = names.vocabulary
    if play.trigger.signal is not None:
        yield ("trigger", "signal"), partial(words.check_signal, play.trigger.signal)
    if play.trigger.stage_change is not None:
        yield ("trigger", "stage_change"), partial(_move, play.trigger.stage_change, words)
    silence, segment = play.trigger.silence, play.trigger.segment
    if silence is not None and silence.of != "any":
        yield ("trigger", "silence", "of"), partial(words.check_signal, silence.of)
    if segment is not None:
        yield (
            ("trigger", "segment"),
            partial(check_references, {"segment": segment}, names.segments, words),
        )
    for number, one in enumerate(play.exits):
        if one.signal is not None:
            yield ("exits", number, "signal"), partial(words.check_signal, one.signal)
        if one.stage_change is not None:
            yield ("exits", number, "stage_change"), partial(_move, one.stage_change, words)
    if play.goal is not None and play.goal.signal is not None:
        yield ("goal", "signal"), partial(words.check_signal, play.goal.signal)
    for place, condition in iter_conditions(play):
        yield place, partial(check_references, condition, names.segments, words)


def _why(ask: Callable[[], object]) -> str:
    try:
        ask()
    except ValueError as error:
        return str(error)
    return ""


def _move(move: StageMatch, words: CycleVocabularies) -> None:
    for name in filter(None, (move.from_, move.to)):
        if move.axis is None:
            words.check_stages(move.cycle, [name])
        else:
            words.check_axis_place(move.cycle, move.axis, name)
    words.get_cycle(move.cycle)


def _actions(program: PlayProgram, names: KnownNames) -> Iterator[str]:
    for action in program.actions.values():
        if action.destination and names.destinations is not None:
            channel = names.destinations.get(action.destination)
            if channel is None:
                yield f"action {action.action}: no destination {action.destination!r} is defined"
            elif channel != action.channel:
                yield f"action {action.action}: destination {action.destination!r} is one of another channel"
        if (
            action.content
            and action.content.fallback
            and action.content.fallback not in names.contents
        ):
            yield f"action {action.action}: no content {action.content.fallback!r} is defined"
