"""Keeping who fell from where, and telling it: counts for every pair of stages, and each audience as a file."""

import csv
import io
from collections.abc import AsyncIterator, Sequence

from libs.common.db.connection import Connection, Session
from libs.common.errors import NotFound
from libs.common.instants import to_iso
from libs.common.messages import StageChange
from services.orchestrator.domain.contact_facts import ContactFacts
from services.orchestrator.domain.cycle_vocabulary import CycleVocabularies, CycleVocabulary
from services.orchestrator.domain.dropoff_audience import (
    COLUMNS,
    DropoffPair,
    count_pairs,
    dropped_stage,
    export_row,
    regained_stages,
)
from services.orchestrator.handlers.play_registry import PlayRegistry
from services.orchestrator.repository import contact_reader, dropoffs

BATCH_SIZE = 500


async def store_dropoffs(
    connection: Connection, vocabulary: CycleVocabularies, changes: Sequence[StageChange]
) -> None:
    """Note falls and returns, in the order in which they were told."""
    for change in changes:
        words = vocabulary.cycles.get(change.cycle)
        if words is None:
            continue
        back = regained_stages(change, words.rings)
        if back:
            await dropoffs.delete_dropoffs(
                connection, change.contact_id, change.cycle, back, change.occurred_at
            )
        stage = dropped_stage(change)
        if stage is not None:
            place = (change.contact_id, change.cycle, stage, change.workspace, change.occurred_at)
            await dropoffs.upsert_dropoffs(connection, [place])


class DropoffAudienceService:
    """Tells a workspace who fell from where."""

    def __init__(self, session: Session, registry: PlayRegistry) -> None:
        self._session = session
        self._registry = registry

    async def list_pairs(self, workspace: str, cycle: str) -> list[DropoffPair]:
        """Return how many fell from each stage without having reached each further one. Raises NotFound for no such cycle."""
        async with self._session.acquire() as connection:
            words = await self._words(connection, cycle)
            return count_pairs(
                await dropoffs.count_groups(connection, workspace, cycle), words.rings
            )

    async def check_stages(self, cycle: str, pair: tuple[str, str]) -> None:
        """Raise NotFound if a cycle, or one of two stages, does not exist."""
        async with self._session.acquire() as connection:
            words = await self._words(connection, cycle)
        for stage in pair:
            if stage not in words.rings:
                raise NotFound(f"cycle {cycle} has no stage {stage!r}")

    async def export_csv(
        self, workspace: str, cycle: str, pair: tuple[str, str]
    ) -> AsyncIterator[str]:
        """Yield an audience as CSV (RFC 4180), some contacts at a time: those who allow marketing and have not opted out."""
        yield _lines([COLUMNS])
        after = ""
        while True:
            async with self._session.acquire() as connection:
                found = dict(
                    await dropoffs.list_audience(
                        connection, workspace, cycle, pair, after, BATCH_SIZE
                    )
                )
                snapshot = await self._registry.get_snapshot(connection)
                known = (
                    await contact_reader.get_facts(connection, list(found), snapshot.vocabulary)
                    if found
                    else {}
                )
            if not found:
                return
            after = max(found)
            rows = [
                export_row(facts, pair[0], to_iso(found[one]))
                for one, facts in sorted(known.items())
                if _may(facts)
            ]
            yield _lines(rows)

    async def _words(self, connection: Connection, cycle: str) -> CycleVocabulary:
        words = (await self._registry.get_snapshot(connection)).vocabulary.cycles.get(cycle)
        if words is None:
            raise NotFound(f"no cycle {cycle!r} is live")
        return words


def _may(facts: ContactFacts) -> bool:
    return facts.consents.get("marketing", False) and "*" not in facts.suppressed


def _lines(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()
