"""Validation of plays: every name that a play refers to must exist before it is published."""

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial

import msgspec

from libs.common.conditions import Condition, Place, SegmentCondition
from libs.common.documents import format_fault, parse_document
from libs.common.errors import ConfigurationError
from services.orchestrator.domain.condition_references import check_references, reference_faults
from services.orchestrator.domain.cycle_vocabulary import CycleVocabularies
from services.orchestrator.domain.play import Play, StageMatch
from services.orchestrator.domain.play_program import PlayProgram, compile_play, iter_conditions


class KnownNames(msgspec.Struct, frozen=True):
    """The names to which a play may refer."""

    vocabulary: CycleVocabularies
    segments: Mapping[str, Condition] = {}
    destinations: Mapping[str, str] | None = None
    """{name: channel}; None accepts every name."""
    contents: Collection[str] = ()


def validate_play(text: str, where: str, names: KnownNames) -> Play:
    """Return the play of a document.

    Raises ConfigurationError with one line per fault: `where:line:column: place: reason`.
    """
    play = parse_document(Play, text, where)
    faults = [
        format_fault(text, where, place, reason) for place, reason in _reference_faults(play, names)
    ]
    if not faults:
        try:
            program = compile_play(play, 0, names.segments)
            faults = [f"{where}: {reason}" for reason in _action_faults(program, names)]
        except ValueError as error:
            faults = [f"{where}: {error}"]
    if faults:
        raise ConfigurationError("\n".join(faults))
    return play


def _reference_faults(play: Play, names: KnownNames) -> Iterator[tuple[Place, str]]:
    """Yield (place, reason) of every name in a play that refers to nothing."""
    for place, check in _name_checks(play, names):
        try:
            check()
        except ValueError as error:
            yield place, str(error)
    for place, condition in iter_conditions(play):
        yield from reference_faults(condition, names.segments, names.vocabulary, place)


def _name_checks(play: Play, names: KnownNames) -> Iterator[tuple[Place, Callable[[], object]]]:
    """Yield each place outside conditions that names something, with its check."""
    vocabulary, trigger = names.vocabulary, play.trigger
    if trigger.signal is not None:
        yield ("trigger", "signal"), partial(vocabulary.check_signal, trigger.signal)
    if trigger.stage_change is not None:
        yield (
            ("trigger", "stage_change"),
            partial(_check_stage_match, trigger.stage_change, vocabulary),
        )
    if trigger.silence is not None and trigger.silence.of != "any":
        yield ("trigger", "silence", "of"), partial(vocabulary.check_signal, trigger.silence.of)
    if trigger.segment is not None:
        membership = SegmentCondition(segment=trigger.segment)
        check = partial(check_references, membership, names.segments, vocabulary)
        yield ("trigger", "segment"), check
    for number, rule in enumerate(play.exits):
        if rule.signal is not None:
            yield ("exits", number, "signal"), partial(vocabulary.check_signal, rule.signal)
        if rule.stage_change is not None:
            yield (
                ("exits", number, "stage_change"),
                partial(_check_stage_match, rule.stage_change, vocabulary),
            )
    if play.goal is not None and play.goal.signal is not None:
        yield ("goal", "signal"), partial(vocabulary.check_signal, play.goal.signal)


def _check_stage_match(match: StageMatch, vocabulary: CycleVocabularies) -> None:
    for name in filter(None, (match.from_, match.to)):
        if match.axis is None:
            vocabulary.check_stages(match.cycle, [name])
        else:
            vocabulary.check_axis_place(match.cycle, match.axis, name)
    vocabulary.get_cycle(match.cycle)


def _action_faults(program: PlayProgram, names: KnownNames) -> Iterator[str]:
    for action in program.actions.values():
        if action.destination and names.destinations is not None:
            channel = names.destinations.get(action.destination)
            if channel is None:
                yield f"action {action.action}: no destination {action.destination!r} is defined"
            elif channel != action.channel:
                yield (
                    f"action {action.action}: destination {action.destination!r} "
                    f"belongs to channel {channel}, not to {action.channel}"
                )
        if (
            action.content
            and action.content.fallback
            and action.content.fallback not in names.contents
        ):
            yield f"action {action.action}: no content {action.content.fallback!r} is defined"
