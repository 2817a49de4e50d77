"""Running a play over what was published: touches nothing, sends nothing."""

from collections.abc import AsyncIterator, Callable

import msgspec

from libs.common.conditions import SegmentCondition
from libs.common.db.connection import Connection
from libs.common.messages import CompellingEvent, Signal, StageChange, decode_value
from services.orchestrator.domain.condition_evaluator import compile_condition
from services.orchestrator.domain.entry_cause import TriggerEvent
from services.orchestrator.domain.gate import GateRules
from services.orchestrator.domain.play_program import compile_play
from services.orchestrator.domain.play_simulation import (
    PublishedHistory,
    SimulatedStep,
    SimulationContext,
    simulate_play,
)
from services.orchestrator.domain.play_validation import validate_play
from services.orchestrator.handlers.play_registry import PlayRegistry
from services.orchestrator.handlers.plays import known_names
from services.orchestrator.repository import contact_reader, published_history

BATCH_SIZE = 500
_MODELS: dict[str, type[TriggerEvent]] = {
    model.KIND: model for model in (Signal, StageChange, CompellingEvent)
}


class SimulationResult(msgspec.Struct):
    """What a play would have done, and with how many contacts it was tried."""

    contacts: int
    happened: list[SimulatedStep]


async def run_simulation(
    connection: Connection,
    workspace: str,
    text: str,
    where: str,
    rules: GateRules,
    between: tuple[int, int],
    progress: Callable[[int], None],
) -> SimulationResult:
    """Run a play's text over a workspace's published history between two instants (µs UTC); `progress` is told of contacts.

    Raises ConfigurationError with a line for each fault of the text.
    """
    snapshot = await PlayRegistry().get_snapshot(connection)
    names = msgspec.structs.replace(
        known_names(snapshot, workspace), destinations=None
    )  # nothing is sent
    play = validate_play(text, where, names)
    program = compile_play(play, 0, snapshot.segments.get(workspace, {}))
    segment, segments = play.trigger.segment, snapshot.segments.get(workspace, {})
    test = (
        compile_condition(SegmentCondition(segment=segment), segments)
        if segment is not None
        else None
    )
    world = SimulationContext(
        snapshot.vocabulary, rules, snapshot.contents.get(workspace, ()), workspace, test
    )
    found = SimulationResult(0, [])
    async for stories in _stories(connection, workspace):
        for story in stories:
            found.happened += simulate_play(program, story, world, *between)
        found.contacts += len(stories)
        progress(found.contacts)
    return found


async def _stories(connection: Connection, workspace: str) -> AsyncIterator[list[PublishedHistory]]:
    """Yield everybody of whom something was published, some at a time."""
    after = ""
    while contacts := await published_history.list_contacts(
        connection, workspace, after, BATCH_SIZE
    ):
        after = contacts[-1]
        events: dict[str, list[TriggerEvent]] = {}
        for contact, kind, value in await published_history.list_published(
            connection, workspace, contacts
        ):
            if kind in _MODELS:
                events.setdefault(contact, []).append(decode_value(_MODELS[kind], value))
        known = await contact_reader.get_profiles(connection, contacts)
        yield [
            PublishedHistory(contact, *known[contact], events[contact])
            for contact in contacts
            if contact in known and contact in events
        ]
