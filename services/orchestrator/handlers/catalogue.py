"""What to offer a contact next, and where the catalogue has gaps."""

import msgspec

from libs.common.clock import Clock
from libs.common.db.connection import Connection, Session
from libs.common.db.unit_of_work import unit_of_work
from libs.common.errors import NotFound
from services.orchestrator.domain.content import Item, choose
from services.orchestrator.domain.coverage import Cell, Question, matrix, questions, standing_in
from services.orchestrator.handlers.playbook import Playbook
from services.orchestrator.repository import actions, lookup, people
from services.orchestrator.repository import sweeps as contacts_of
from services.orchestrator.repository.sweeps import Sweep

AT_ONCE = 500
CHANNELS = ("email", "onsite")


class Next(msgspec.Struct, frozen=True):
    """What to offer a contact on a channel, None if nothing fits; and why, item by item."""

    contact_id: str
    channel: str
    content: str | None
    type: str | None
    title: str | None
    url: str | None
    reasons: list[str]


class Coverage(msgspec.Struct, frozen=True):
    """The matrix and the questions of a cycle; `empty` are the cells in which somebody stands and nothing fits."""

    cycle: str
    empty: int
    cells: list[Cell]
    questions: list[Question]


class Catalogue:
    """Answers from a workspace's contents."""

    def __init__(self, session: Session, playbook: Playbook, clock: Clock) -> None:
        self._session = session
        self._playbook = playbook
        self._clock = clock

    async def next_for(
        self, workspace: str, who: str, channel: str, types: tuple[str, ...], fallback: str | None, *, show: bool
    ) -> Next:
        """Return what to offer a contact now: same input, same answer. With `show` it counts as shown. Raises NotFound."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            contact = await lookup.known(connection, workspace, who)
            book = await self._playbook.now(connection)
            facts = (await people.facts(connection, [contact], book.vocabulary))[contact]
            found = choose(book.contents.get(workspace, ()), facts, channel, types, fallback)
            item = found.item
            if show and item is not None:
                await actions.expose(connection, [(contact, item.content, self._clock.now())])
        if item is None:
            return Next(contact, channel, None, None, None, None, list(found.reasons))
        return Next(contact, channel, item.content, item.type, item.title, item.url, list(found.reasons))

    async def coverage(self, workspace: str, cycle: str) -> Coverage:
        """Return where contents are missing, the cells with most contacts first. Raises NotFound for no such cycle."""
        async with self._session.acquire() as connection:
            book = await self._playbook.now(connection)
            words = book.vocabulary.cycles.get(cycle)
            if words is None:
                raise NotFound(f"no cycle {cycle!r} is live")
            counts = await self._counts(connection, workspace, cycle)
        items: list[Item] = list(book.contents.get(workspace, ()))
        cells = matrix(items, list(words.rings), CHANNELS, counts, cycle)
        asked = questions(items, words.questions, counts, cycle)
        return Coverage(cycle, sum(not cell.contents and cell.contacts > 0 for cell in cells), cells, asked)

    async def _counts(self, connection: Connection, workspace: str, cycle: str) -> dict[tuple[str, str], int]:
        book = await self._playbook.now(connection)
        everybody = Sweep("", workspace, "", None, "", None)
        counts: dict[tuple[str, str], int] = {}
        while found := await contacts_of.next_contacts(connection, everybody, AT_ONCE):
            everybody = msgspec.structs.replace(everybody, reached=found[-1])
            known = await people.facts(connection, found, book.vocabulary)
            for place, count in standing_in(known.values(), cycle).items():
                counts[place] = counts.get(place, 0) + count
        return counts
