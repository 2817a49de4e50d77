"""Keeping who fell from where, and telling it: counts for every pair of stages, and each audience as a file."""

import csv
import io
from collections.abc import AsyncIterator, Sequence

from libs.common.db.connection import Connection, Session
from libs.common.errors import NotFound
from libs.common.instants import to_iso
from libs.common.messages import StageChange
from services.orchestrator.domain.facts import Facts
from services.orchestrator.domain.falls import COLUMNS, Pair, fall, pairs, returned, row
from services.orchestrator.domain.vocabulary import CycleWords, Vocabulary
from services.orchestrator.handlers.playbook import Playbook
from services.orchestrator.repository import falls, people

AT_ONCE = 500


async def keep_falls(connection: Connection, vocabulary: Vocabulary, changes: Sequence[StageChange]) -> None:
    """Note falls and returns, in the order in which they were told."""
    for change in changes:
        words = vocabulary.cycles.get(change.cycle)
        if words is None:
            continue
        back = returned(change, words.rings)
        if back:
            await falls.returned(connection, change.contact_id, change.cycle, back, change.occurred_at)
        stage = fall(change)
        if stage is not None:
            place = (change.contact_id, change.cycle, stage, change.workspace, change.occurred_at)
            await falls.fell(connection, [place])


class Falls:
    """Tells a workspace who fell from where."""

    def __init__(self, session: Session, playbook: Playbook) -> None:
        self._session = session
        self._playbook = playbook

    async def pairs(self, workspace: str, cycle: str) -> list[Pair]:
        """Return how many fell from each stage without having reached each further one. Raises NotFound for no such cycle."""
        async with self._session.acquire() as connection:
            words = await self._words(connection, cycle)
            return pairs(await falls.groups(connection, workspace, cycle), words.rings)

    async def check(self, cycle: str, pair: tuple[str, str]) -> None:
        """Raise NotFound if a cycle, or one of two stages, does not exist."""
        async with self._session.acquire() as connection:
            words = await self._words(connection, cycle)
        for stage in pair:
            if stage not in words.rings:
                raise NotFound(f"cycle {cycle} has no stage {stage!r}")

    async def export(self, workspace: str, cycle: str, pair: tuple[str, str]) -> AsyncIterator[str]:
        """Yield an audience as CSV (RFC 4180), some contacts at a time: those who allow marketing and have not opted out."""
        yield _lines([COLUMNS])
        after = ""
        while True:
            async with self._session.acquire() as connection:
                found = dict(await falls.audience(connection, workspace, cycle, pair, after, AT_ONCE))
                book = await self._playbook.now(connection)
                known = await people.facts(connection, list(found), book.vocabulary) if found else {}
            if not found:
                return
            after = max(found)
            rows = [row(facts, pair[0], to_iso(found[one])) for one, facts in sorted(known.items()) if _may(facts)]
            yield _lines(rows)

    async def _words(self, connection: Connection, cycle: str) -> CycleWords:
        words = (await self._playbook.now(connection)).vocabulary.cycles.get(cycle)
        if words is None:
            raise NotFound(f"no cycle {cycle!r} is live")
        return words


def _may(facts: Facts) -> bool:
    return facts.consents.get("marketing", False) and "*" not in facts.suppressed


def _lines(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()
