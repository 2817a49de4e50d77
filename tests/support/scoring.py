"""Scoring on a real database, without Kafka: batches are passed to its handler."""

from collections.abc import Sequence
from typing import Any

import msgspec

from cli.home import PROJECT
from libs.common.db.connection import Session, connect
from libs.common.db.outbox import Outbox
from libs.common.ids import WorkspaceId
from libs.common.kafka.record import Record
from libs.common.messages import Touchpoint
from services.scoring.domain.cycle import ActiveCycle
from services.scoring.handlers.corrections import CorrectionService
from services.scoring.handlers.cycle_file_reader import read_cycles
from services.scoring.handlers.cycle_registry import CycleRegistry
from services.scoring.handlers.cycle_versions import CycleVersionService
from services.scoring.handlers.deferred_links import DeferredLinkJob
from services.scoring.handlers.fold_jobs import FoldJobs
from services.scoring.handlers.identities import Author, IdentityService
from services.scoring.handlers.replay import compare_with_stored
from services.scoring.handlers.touchpoint_batch import ContactCache, TouchpointBatchHandler
from services.scoring.handlers.version_rollout import VersionRollout
from services.scoring.repository import replay_source, schedule
from tests.support.fixed_cycles import FixedCycleRegistry

PARTITIONS = 3
_encode = msgspec.json.Encoder().encode


class Scoring:
    """One instance with its connections and its contact cache."""

    def __init__(
        self,
        database: str,
        cycles: Sequence[ActiveCycle] | None = None,
        cycle_registry: CycleRegistry | None = None,
    ) -> None:
        self.database = database
        self.cycles = list(cycles or read_cycles(PROJECT / "cycles"))
        self.sessions = [Session(database, name) for name in ("test", "test-jobs", "test-look")]
        outbox = self.outboxes = Outbox("scoring", PARTITIONS)
        cycle_registry = cycle_registry or FixedCycleRegistry(self.cycles)
        self.cycle_registry = cycle_registry
        self.handler = TouchpointBatchHandler(
            self.sessions[:1], outbox, cycle_registry, ContactCache()
        )
        self.jobs = FoldJobs(self.sessions[1], outbox, cycle_registry, PARTITIONS)
        self.identities = IdentityService(self.sessions[1], outbox, cycle_registry)
        self.corrections = CorrectionService(self.sessions[1], outbox, cycle_registry)
        self.deferred_links = DeferredLinkJob(self.sessions[1], outbox, cycle_registry)
        self.rollout = VersionRollout(self.sessions[1], outbox, cycle_registry)
        self.versions = CycleVersionService(self.sessions[1])

    async def ingest(self, touchpoints: Sequence[Touchpoint], partition: int = 0) -> int:
        """Handle a batch at the partition's next offset."""
        return await self.ingest_raw([_encode(t) for t in touchpoints], partition)

    async def ingest_raw(self, values: Sequence[bytes | None], partition: int = 0) -> int:
        """Handle values as they are on the topic."""
        first_offset = await self.handler.next_offset("touchpoints", partition, 0)
        return await self.handler.handle(
            [kafka_record(value, first_offset + n, partition) for n, value in enumerate(values)]
        )

    async def set_frontier(self, instant: int) -> None:
        """Advance the frontier of every partition, so that timers up to `instant` may fire."""
        reached = {("touchpoints", p): instant + schedule.GRACE for p in range(PARTITIONS)}
        async with self.sessions[1].acquire() as connection:
            await schedule.upsert_frontier(connection, reached)

    async def run_jobs(self) -> None:
        """Process the refold queue and the due timers."""
        await self.fetch("UPDATE scoring.refolds SET touched_at = now() - interval '1 hour'")
        while await self.deferred_links.run():
            pass
        while await self.jobs.refold():
            pass
        await self.fetch("UPDATE scoring.refolds SET touched_at = now() - interval '1 hour'")
        await self.jobs.refold()
        while await self.jobs.fire_timers():
            pass
        await self.jobs.fire_timers()

    async def fetch(self, query, *arguments):
        """Run a query on a separate connection."""
        async with self.sessions[2].acquire() as connection:
            return await connection.fetch(query, *arguments)

    async def outbox(self, topic: str) -> list[dict[str, Any]]:
        """Return the unpublished messages of a topic, in order."""
        rows = await self.fetch(
            "SELECT value FROM scoring.outbox WHERE topic = $1 ORDER BY id", topic
        )
        return [msgspec.json.decode(r[0]) if r[0] else {} for r in rows]

    async def replay_check(self, frontier: int = -1) -> dict[str, Any]:
        """Compare with a fresh fold."""
        connection = await connect(self.database, application="test-replay")
        try:
            async with connection.transaction(isolation="repeatable_read"):
                return await compare_with_stored(connection, self.cycles, frontier)
        finally:
            await connection.close()

    async def finish_versions(self) -> None:
        """Complete every rollout in progress."""
        while await self.rollout.fill_shadow():
            pass
        await self.rollout.activate_shadow()
        for _ in range(8):
            await self.fetch("UPDATE scoring.cycle_versions SET told_at = '-infinity' RETURNING 1")
            await self.rollout.publish_net_changes()
            await self.rollout.delete_retired_folds()

    async def merge(self, first: str, second: str):
        """Merge two contacts manually, and refold."""
        outcome = await self.identities.merge(
            WorkspaceId("default"), first, second, Author("tester")
        )
        await self.run_jobs()
        return outcome

    async def unmerge(self, first: str, second: str):
        """Unmerge two identifiers, and refold."""
        outcome = await self.identities.unmerge(
            WorkspaceId("default"), first, second, Author("tester")
        )
        await self.run_jobs()
        return outcome

    async def pure_rows(self) -> dict[Any, Any]:
        """Return the pure rows by (identifiers, cycle)."""
        connection = await connect(self.database, application="test-pure")
        try:
            names = await replay_source.get_identifiers(connection)
            rows = await replay_source.get_pure_rows(
                connection, {c.engine.fold: c.engine.name for c in self.cycles}
            )
        finally:
            await connection.close()
        return {
            (names[contact], cycle): (row.state, row.moves)
            for (contact, cycle), row in rows.items()
        }

    async def close(self) -> None:
        """Close the connections."""
        for session in self.sessions:
            await session.close()


async def contact_ids(scoring: Scoring) -> dict[str, str]:
    """Return the contact of each stored touchpoint, by message id."""
    rows = await scoring.fetch("SELECT message_id, contact_id FROM scoring.touchpoints")
    return {r[0]: r[1] for r in rows}


async def assert_replay_equal(scoring: Scoring, frontier: int = -1) -> dict[str, Any]:
    """Assert that the stored pure rows equal those of a fresh fold; return the outcome."""
    outcome = await scoring.replay_check(frontier)
    assert outcome["equal"], outcome["differences"]
    return outcome


def kafka_record(
    value: bytes | None, offset: int, partition: int = 0, kind: str = Touchpoint.KIND
) -> Record:
    """Return a record as the consumer passes it."""
    return Record("touchpoints", partition, offset, b"key", value, [("ce_type", kind.encode())], 0)
