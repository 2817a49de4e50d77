"""Running a play over what was published: touches nothing, sends nothing."""

from collections.abc import AsyncIterator, Callable

import msgspec

from libs.common.db.connection import Connection
from libs.common.messages import CompellingEvent, Signal, StageChange, decode_value
from services.orchestrator.domain.checking import checked
from services.orchestrator.domain.condition import compiled
from services.orchestrator.domain.gate import Rules
from services.orchestrator.domain.occasion import Event
from services.orchestrator.domain.program import program_of
from services.orchestrator.domain.simulation import Happened, Story, World, simulate
from services.orchestrator.handlers.playbook import Playbook
from services.orchestrator.handlers.plays import names_of
from services.orchestrator.repository import history, people

AT_ONCE = 500
_MODELS: dict[str, type[Event]] = {model.KIND: model for model in (Signal, StageChange, CompellingEvent)}


class Simulated(msgspec.Struct):
    """What a play would have done, and with how many contacts it was tried."""

    contacts: int
    happened: list[Happened]


async def simulated(
    connection: Connection,
    workspace: str,
    text: str,
    where: str,
    rules: Rules,
    between: tuple[int, int],
    progress: Callable[[int], None],
) -> Simulated:
    """Run a play's text over a workspace's published history between two instants (µs UTC); `progress` is told of contacts.

    Raises ConfigurationError with a line for each fault of the text.
    """
    book = await Playbook().now(connection)
    names = msgspec.structs.replace(names_of(book, workspace), destinations=None)  # nothing is sent
    play = checked(text, where, names)
    program = program_of(play, 0, book.segments.get(workspace, {}))
    segment, segments = play.trigger.segment, book.segments.get(workspace, {})
    test = compiled({"segment": segment}, segments) if segment is not None else None
    world = World(book.vocabulary, rules, book.contents.get(workspace, ()), workspace, test)
    found = Simulated(0, [])
    async for stories in _stories(connection, workspace):
        for story in stories:
            found.happened += simulate(program, story, world, *between)
        found.contacts += len(stories)
        progress(found.contacts)
    return found


async def _stories(connection: Connection, workspace: str) -> AsyncIterator[list[Story]]:
    """Yield everybody of whom something was published, some at a time."""
    after = ""
    while contacts := await history.contacts(connection, workspace, after, AT_ONCE):
        after = contacts[-1]
        events: dict[str, list[Event]] = {}
        for contact, kind, value in await history.published(connection, workspace, contacts):
            if kind in _MODELS:
                events.setdefault(contact, []).append(decode_value(_MODELS[kind], value))
        known = await people.profiles(connection, contacts)
        yield [
            Story(contact, *known[contact], events[contact])
            for contact in contacts
            if contact in known and contact in events
        ]
