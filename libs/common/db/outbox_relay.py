"""Outbox relay: publishes the outbox of a service to Kafka.

Each row has a shard, the partition of its key. A shard is published by a single relay at a time,
which has a session advisory lock on the connection that deletes the rows. Rows are published in id
order through an idempotent producer, and deleted when Kafka has acknowledged them. A crash in
between repeats rows in order; ids are deterministic, so consumers drop the repeats.

A process keeps the locks of its shards on one connection and releases those above its fair share.
NOTIFY on that connection wakes it: each transaction that writes rows sends one. A query per
FALLBACK_SECONDS finds rows whose notification was lost (ADR 30). A row that the broker refuses is
quarantined: it stays with the error, and later rows of its key wait for the operator
(`libs.common.db.outbox_quarantine`), so that `sequence` has no gap. Messages of a kept topic move
to the published-message log (`libs.common.db.published_messages`), for consumers that do not read
the topic.
"""

import asyncio
from collections.abc import Sequence
from typing import Literal, Protocol

import asyncpg

from libs.common.db import published_messages as published
from libs.common.db.advisory_locks import AdvisoryLockPool
from libs.common.db.connection import Connection
from libs.common.db.dedicated_connection import run_on_dedicated_connection
from libs.common.db.outbox import message_from_row
from libs.common.errors import InvalidMessage
from libs.common.failpoints import hit
from libs.common.messages import Message
from libs.common.observability import logs, metrics
from libs.common.service_runner import FALLBACK_SECONDS, wait_for_any

BATCH = 1_000
RETRY_SECONDS = 0.5
"""Delay of the next attempt after Kafka acknowledged no row of a batch."""
_FlushResult = Literal["published", "failed", "empty"]


class MessagePublisher(Protocol):
    """Publisher of the relay."""

    async def publish(
        self, messages: Sequence[Message], seconds: float
    ) -> Sequence[Exception | None]:
        """Send in order; return a fault or None for each message."""
        ...


log = logs.get_logger(__name__)


class OutboxRelay:
    """Publishes the outbox of a service until `stop`."""

    def __init__(
        self,
        database_url: str,
        schema: str,
        shards: int,
        publisher: MessagePublisher,
        kept: Sequence[str] = (),
        *,
        fallback: float = FALLBACK_SECONDS,
    ) -> None:
        """`kept`: topics with a published-message log in the schema.

        `fallback`: seconds after which rows without a notification are published.
        """
        self._database_url = database_url
        self._schema = schema
        self._shards = shards
        self._publisher = publisher
        self._kept = kept
        self._fallback = fallback
        self._shares = AdvisoryLockPool(f"perigee.relay.{schema}")
        self._wake = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Relay until `stop` is set; a lost connection is reopened and its shards locked again."""
        await run_on_dedicated_connection(
            self._database_url,
            f"{self._schema}-relay",
            stop,
            lambda connection: self._serve(connection, stop),
        )

    async def _serve(self, connection: Connection, stop: asyncio.Event) -> None:
        await self._shares.register(connection, self._wake)
        await connection.add_listener(f"{self._schema}_outbox", lambda *_: self._wake.set())
        while not stop.is_set():
            self._wake.clear()
            if not self._shares.seconds_until_rebalance():
                await self._shares.rebalance(connection, range(self._shards))
            result = await self._flush(connection)
            if result != "published":
                seconds = RETRY_SECONDS if result == "failed" else self._fallback
                seconds = min(seconds, self._shares.seconds_until_rebalance())
                await wait_for_any(stop, self._wake, seconds=seconds)

    async def _flush(self, connection: Connection) -> _FlushResult:
        """Publish a batch of the locked shards; after "published" there may be more."""
        rows = await connection.fetch(
            f"SELECT id, topic, key, value, headers FROM {self._schema}.outbox o "  # noqa: S608
            "WHERE shard = ANY($1::int[]) AND refused IS NULL AND NOT EXISTS (SELECT FROM "
            f"{self._schema}.outbox q WHERE q.refused IS NOT NULL AND NOT q.skipped "
            "AND q.shard = o.shard AND q.topic = o.topic AND q.key = o.key) ORDER BY id LIMIT $2",
            list(self._shares.held),
            BATCH,
        )
        if not rows:
            return "empty"
        hit("before_publish")
        done = await self._publish(connection, rows)
        hit("after_publish")
        await self._end(connection, done)
        metrics.RELAYED.labels(service=self._schema).inc(len(done))
        return "published" if done else "failed"

    async def _end(self, connection: Connection, done: Sequence[int]) -> None:
        if not self._kept:
            await connection.execute(
                f"DELETE FROM {self._schema}.outbox WHERE id = ANY($1::bigint[])",  # noqa: S608
                done,
            )
        else:
            await published.insert_from_outbox(connection, self._schema, done, self._kept)

    async def _publish(self, connection: Connection, rows: Sequence[asyncpg.Record]) -> list[int]:
        """Publish in waves with one row of each key, so that no row overtakes a refused one.

        Returns the ids of the published rows.
        """
        done: list[int] = []
        stopped: set[tuple[str, bytes]] = set()
        for wave in _waves(rows):
            going = [row for row in wave if (row["topic"], row["key"]) not in stopped]
            faults = await self._publisher.publish(
                [message_from_row(*tuple(r)[1:]) for r in going], 10
            )
            for row, fault in zip(going, faults, strict=True):
                if fault is None:
                    done.append(row["id"])
                    continue
                stopped.add((row["topic"], row["key"]))
                if isinstance(fault, InvalidMessage):
                    await self._quarantine(connection, row, fault)
        return done

    async def _quarantine(
        self, connection: Connection, row: asyncpg.Record, fault: InvalidMessage
    ) -> None:
        await connection.execute(
            f"UPDATE {self._schema}.outbox SET refused = $2 WHERE id = $1",  # noqa: S608
            row["id"],
            str(fault),
        )
        metrics.QUARANTINED.labels(service=self._schema).inc()
        log.error("outbox_row_refused", id=row["id"], topic=row["topic"], reason=fault.reason)


def _waves(rows: Sequence[asyncpg.Record]) -> list[list[asyncpg.Record]]:
    """Split rows into waves: the n-th wave has the n-th row of each (topic, key), in id order."""
    waves: list[list[asyncpg.Record]] = []
    seen: dict[tuple[str, bytes], int] = {}
    for row in rows:
        topic_key = (row["topic"], row["key"])
        number = seen.get(topic_key, 0)
        seen[topic_key] = number + 1
        if number == len(waves):
            waves.append([])
        waves[number].append(row)
    return waves
