"""Drop-off audiences: counts for each pair of stages, and each audience as CSV."""

import csv
import io
from collections.abc import AsyncIterator, Sequence

from libs.common.db.connection import Connection, Session
from libs.common.errors import NotFound
from libs.common.ids import WorkspaceId
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
    """Store drop-offs and delete regained ones, in the order of the stage changes."""
    for change in changes:
        names = vocabulary.cycles.get(change.cycle)
        if names is None:
            continue
        regained = regained_stages(change, names.rings)
        if regained:
            await dropoffs.delete_dropoffs(
                connection, change.contact_id, change.cycle, regained, change.occurred_at
            )
        stage = dropped_stage(change)
        if stage is not None:
            row = (change.contact_id, change.cycle, stage, change.workspace, change.occurred_at)
            await dropoffs.upsert_dropoffs(connection, [row])


class DropoffAudienceService:
    """Reads the drop-off audiences of a workspace."""

    def __init__(self, session: Session, registry: PlayRegistry) -> None:
        self._session = session
        self._registry = registry

    async def list_pairs(self, workspace: WorkspaceId, cycle: str) -> list[DropoffPair]:
        """Return the counts of contacts that fell from a stage and did not reach a further one.

        Raises NotFound for an unknown cycle.
        """
        async with self._session.acquire() as connection:
            names = await self._get_vocabulary(connection, cycle)
            return count_pairs(
                await dropoffs.count_groups(connection, workspace, cycle), names.rings
            )

    async def check_stages(self, cycle: str, pair: tuple[str, str]) -> None:
        """Raise NotFound if a cycle, or a stage of a pair, does not exist."""
        async with self._session.acquire() as connection:
            names = await self._get_vocabulary(connection, cycle)
        for stage in pair:
            if stage not in names.rings:
                raise NotFound(f"cycle {cycle} has no stage {stage!r}")

    async def export_csv(
        self, workspace: WorkspaceId, cycle: str, pair: tuple[str, str]
    ) -> AsyncIterator[str]:
        """Yield an audience as CSV (RFC 4180) in batches of contacts.

        Contacts without marketing consent, and those that have opted out, are left out.
        """
        yield _to_csv([COLUMNS])
        after = ""
        while True:
            async with self._session.acquire() as connection:
                fell_at = dict(
                    await dropoffs.list_audience(
                        connection, workspace, cycle, pair, after, BATCH_SIZE
                    )
                )
                if not fell_at:
                    return
                snapshot = await self._registry.get_snapshot(connection)
                facts = await contact_reader.get_facts(
                    connection, list(fell_at), snapshot.vocabulary
                )
            after = max(fell_at)
            rows = [
                export_row(of_contact, pair[0], to_iso(fell_at[contact]))
                for contact, of_contact in sorted(facts.items())
                if _may_be_exported(of_contact)
            ]
            yield _to_csv(rows)

    async def _get_vocabulary(self, connection: Connection, cycle: str) -> CycleVocabulary:
        snapshot = await self._registry.get_snapshot(connection)
        names = snapshot.vocabulary.cycles.get(cycle)
        if names is None:
            raise NotFound(f"no cycle {cycle!r} is live")
        return names


def _may_be_exported(facts: ContactFacts) -> bool:
    return facts.consents.get("marketing", False) and "*" not in facts.suppressed


def _to_csv(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()
