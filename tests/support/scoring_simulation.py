"""Simulation around scoring without Kafka: partitions, instances with believed offsets, an outbox.

All events are drawn from one seed. Instances are paused and believe old offsets (zombies); a
transaction can break at any named point, before or after the commit; outbox rows may be read twice.
"""

import contextlib
import random
from collections.abc import Sequence
from typing import Any
from unittest import mock

import msgspec

from libs.common.db import unit_of_work
from libs.common.errors import Conflict, FenceLost, NotFound, Unavailable
from libs.common.ids import WorkspaceId
from libs.common.kafka.record import offset_ranges
from libs.common.messages import Touchpoint
from services.scoring.handlers import touchpoint_batch
from services.scoring.handlers.cycle_registry import DatabaseCycleRegistry
from services.scoring.handlers.identities import Author
from tests.support.random_cycles import SPAN
from tests.support.scoring import PARTITIONS, Scoring, kafka_record

_encode = msgspec.json.Encoder().encode
ME = Author("the model")
TABLES = (
    "offsets", "outbox", "frontier", "cycle_versions", "contacts", "identifiers", "links",
    "regroups", "corrections", "device_claims", "touchpoints", "seen", "contact_states",
    "checkpoints", "transitions", "publications", "timers", "refolds", "fold_errors",
)  # fmt: skip


class SimulatedSystem:
    """Log partitions, instances, and the messages read from the outbox."""

    def __init__(self, chance: random.Random, database: str, spec: Any) -> None:
        self.chance = chance
        self.log: list[list[bytes]] = [[] for _ in range(PARTITIONS)]
        self.sent: dict[str, Touchpoint] = {}
        self.instances = [Scoring(database, [], DatabaseCycleRegistry()) for _ in range(2)]
        self.believed: list[dict[int, int]] = [{}, {}]
        self.stage_changes: list[dict[str, Any]] = []
        self.signals: list[dict[str, Any]] = []
        self.spec = spec
        self.frontier_at = 0
        self.broken = 0
        self.fenced = 0

    @property
    def random_instance(self) -> Scoring:
        """Return an instance."""
        return self.chance.choice(self.instances)

    def send(self, touchpoint: Touchpoint) -> None:
        """Append a touchpoint to its partition, sometimes a duplicate to any partition."""
        partition = routing_hash(touchpoint) % PARTITIONS
        self.log[partition].append(_encode(touchpoint))
        self.sent.setdefault(touchpoint.source + touchpoint.message_id, touchpoint)
        if self.chance.random() < 0.15:
            self.log[self.chance.randrange(PARTITIONS)].append(_encode(touchpoint))

    async def consume(self, number: int, partitions: Sequence[int], size: int) -> None:
        """Let an instance process a batch of partitions from its believed offsets."""
        instance, believed = self.instances[number], self.believed[number]
        records = []
        for partition in partitions:
            if partition not in believed:
                believed[partition] = await instance.handler.next_offset(
                    "touchpoints", partition, 0
                )
            start = believed.pop(partition)
            values = self.log[partition][start : start + size]
            records += [kafka_record(v, start + n, partition) for n, v in enumerate(values)]
        if not records:
            return
        try:
            with self.trouble():
                await instance.handler.handle(records)
            believed.update(
                (partition, end) for (_, partition), (_, end) in offset_ranges(records).items()
            )
        except FenceLost:
            self.fenced += 1
        except Unavailable:
            self.broken += 1

    def trouble(self) -> "ConnectionLoss":
        """Return a context in which a transaction may break."""
        return ConnectionLoss(self.chance)

    async def tick(self) -> None:
        """Advance time, never beyond unread records."""
        unread = await self._first_unread()
        self.frontier_at = max(
            self.frontier_at, min(unread - 1, self.frontier_at + self.chance.randint(0, 25))
        )
        instance = self.random_instance
        await instance.set_frontier(self.frontier_at)
        try:
            with self.trouble():
                await instance.jobs.fire_timers()
        except Unavailable:
            self.broken += 1

    async def _first_unread(self) -> int:
        """Return an instant before which no live record is unread; late ones come at any time."""
        return SPAN * 3

    async def work(self) -> None:
        """Run one background job once."""
        instance = self.random_instance
        await instance.fetch(
            "UPDATE scoring.refolds SET touched_at = now() - interval '1 hour' RETURNING 1"
        )
        jobs = [
            instance.deferred_links.run,
            instance.jobs.refold,
            instance.rollout.fill_shadow,
            instance.rollout.activate_shadow,
            instance.rollout.publish_net_changes,
        ]
        try:
            with self.trouble():
                await self.chance.choice([*jobs, instance.rollout.delete_retired_folds])()
        except Unavailable:
            self.broken += 1

    async def correct(self) -> None:
        """Make a random correction."""
        contact_reference = self.chance.choice(
            ["user_id:u", "user_id:v", "user_id:w", "anonymous_id:a", "external:crm:1"]
        )
        other_reference = self.chance.choice(
            ["user_id:u", "user_id:v", "anonymous_id:b", "external:crm:2", "email:x@x.test"]
        )
        instance = self.random_instance
        kind = self.chance.choice(
            [
                "merge",
                "unmerge",
                "unmerge",
                "bot",
                "human",
                "exclude",
                "exclude",
                "include",
                "stage",
            ]
        )
        try:
            with self.trouble():
                if kind in ("merge", "unmerge"):
                    await getattr(instance.identities, kind)(
                        "default", contact_reference, other_reference, ME
                    )
                elif kind == "stage":
                    axis = self.chance.choice(self.spec["axes"])
                    stages = {axis["name"]: self.chance.choice(axis["stages"])["name"]}
                    at = self.chance.randint(1, SPAN)
                    await instance.corrections.set_stage(
                        WorkspaceId("default"),
                        contact_reference,
                        "random",
                        stages,
                        at,
                        at + self.chance.randint(1, 20),
                        ME,
                    )
                else:
                    samples = self.chance.sample(sorted(self.sent), min(len(self.sent), 3))
                    chosen = (
                        [[self.sent[name].message_id] for name in samples]
                        if self.chance.random() < 0.8
                        else [[]]
                    )
                    for message_ids in chosen:
                        await self._correct_touchpoints(
                            instance, contact_reference, kind, message_ids
                        )
        except (Conflict, NotFound):
            pass
        except Unavailable:
            self.broken += 1

    async def _correct_touchpoints(
        self, instance: Scoring, contact_reference: str, kind: Any, message_ids: list[str]
    ) -> None:
        with contextlib.suppress(NotFound):
            await instance.corrections.correct_touchpoints(
                WorkspaceId("default"), contact_reference, kind, message_ids, ME
            )

    async def read_outbox(self) -> None:
        """Read the outbox as the relay does; sometimes crash before deleting the rows."""
        rows = await self.random_instance.fetch(
            "SELECT id, topic, value FROM scoring.outbox ORDER BY id"
        )
        for row in rows:
            if row["value"] is not None:
                target = {"stage-changes": self.stage_changes, "signals": self.signals}.get(
                    row["topic"]
                )
                if target is not None:
                    target.append(msgspec.json.decode(row["value"]))
        if self.chance.random() < 0.8:
            await self.random_instance.fetch(
                "DELETE FROM scoring.outbox WHERE id = ANY($1::bigint[])", [r["id"] for r in rows]
            )

    async def finish(self, end: int) -> None:
        """Consume every record, run every job and advance time to `end`."""
        for partition in range(PARTITIONS):
            while await self._has_unread(partition):
                await self._consume_without_faults(partition)
        await self._finish_jobs()
        await self.random_instance.set_frontier(end)
        await self._finish_jobs()
        await self.read_outbox()

    async def _has_unread(self, partition: int) -> bool:
        offset = await self.instances[0].handler.next_offset("touchpoints", partition, 0)
        self.believed[0][partition] = offset
        return offset < len(self.log[partition])

    async def _consume_without_faults(self, partition: int) -> None:
        start = self.believed[0][partition]
        values = self.log[partition][start : start + 50]
        await self.instances[0].handler.handle(
            [kafka_record(v, start + n, partition) for n, v in enumerate(values)]
        )

    async def _finish_jobs(self) -> None:
        instance = self.instances[0]
        for _ in range(3):
            await instance.run_jobs()
            await instance.finish_versions()

    async def close(self) -> None:
        """Close every connection."""
        for instance in self.instances:
            await instance.close()


class ConnectionLoss:
    """Context in which a transaction may lose its connection at a named point."""

    def __init__(self, chance: random.Random) -> None:
        self.point = chance.choice(
            ["", "", "", "", "", "", "after_fence", "before_commit", "after_commit"]
        )

    def __enter__(self) -> None:
        self.patches = [
            mock.patch.object(module, "hit", self._reach)
            for module in (touchpoint_batch, unit_of_work)
        ]
        for patch in self.patches:
            patch.start()

    def __exit__(self, *_: object) -> None:
        for patch in self.patches:
            patch.stop()

    def _reach(self, point: str) -> None:
        if point == self.point:
            raise Unavailable(f"the connection was lost at {point}")


def routing_hash(touchpoint: Touchpoint) -> int:
    """Return a number that depends on the routing key alone."""
    return sum(touchpoint.routing_key().encode())


async def clear_tables(database: Scoring) -> None:
    """Empty every table."""
    for table in TABLES:
        await database.fetch(f"DELETE FROM scoring.{table}")
