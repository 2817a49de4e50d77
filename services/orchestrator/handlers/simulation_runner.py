"""Simulation of a play over the published history; nothing is written or sent."""

from collections.abc import AsyncIterator, Callable

import msgspec

from libs.common.conditions import SegmentCondition
from libs.common.db.connection import Connection
from libs.common.ids import ContactId, WorkspaceId
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
from services.orchestrator.repository import contact_reader, published_history

BATCH_SIZE = 500
_MODELS: dict[str, type[TriggerEvent]] = {
    model.KIND: model for model in (Signal, StageChange, CompellingEvent)
}


class SimulationResult(msgspec.Struct):
    """Number of simulated contacts, and the steps that the play would have taken."""

    contacts: int
    happened: list[SimulatedStep]


async def run_simulation(
    connection: Connection,
    workspace: WorkspaceId,
    text: str,
    where: str,
    rules: GateRules,
    between: tuple[int, int],
    progress: Callable[[int], None],
) -> SimulationResult:
    """Run a play's text over a workspace's published history between two instants (µs UTC).

    `progress` is called with the number of contacts done. Raises ConfigurationError with a line
    for each fault of the text.
    """
    snapshot = await PlayRegistry().get_snapshot(connection)
    # Nothing is sent, so a simulated play may name any destination.
    names = msgspec.structs.replace(snapshot.known_names(workspace), destinations=None)
    play = validate_play(text, where, names)
    segments = snapshot.segments.get(workspace, {})
    program = compile_play(play, 0, segments)
    segment = play.trigger.segment
    segment_test = (
        compile_condition(SegmentCondition(segment=segment), segments)
        if segment is not None
        else None
    )
    context = SimulationContext(
        snapshot.vocabulary, rules, snapshot.contents.get(workspace, ()), workspace, segment_test
    )
    result = SimulationResult(0, [])
    async for histories in _iter_histories(connection, workspace):
        for history in histories:
            result.happened += simulate_play(program, history, context, *between)
        result.contacts += len(histories)
        progress(result.contacts)
    return result


async def _iter_histories(
    connection: Connection, workspace: WorkspaceId
) -> AsyncIterator[list[PublishedHistory]]:
    """Yield the histories of all contacts with published events, in batches."""
    after = ""
    while contacts := await published_history.list_contacts(
        connection, workspace, after, BATCH_SIZE
    ):
        after = contacts[-1]
        events: dict[ContactId, list[TriggerEvent]] = {}
        for contact, kind, value in await published_history.list_published(
            connection, workspace, contacts
        ):
            if kind in _MODELS:
                events.setdefault(contact, []).append(decode_value(_MODELS[kind], value))
        profiles = await contact_reader.get_profiles(connection, contacts)
        yield [
            PublishedHistory(contact, *profiles[contact], events[contact])
            for contact in contacts
            if contact in profiles and contact in events
        ]
