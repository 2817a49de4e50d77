"""Runs of scoring and of its floor on one stream of touchpoints, for the benchmarks."""

import asyncio
import cProfile
import random
import secrets
import time
from typing import Any, Self

import asyncpg
import msgspec
import psutil
from aiokafka import AIOKafkaConsumer, TopicPartition

from cli.home import PROJECT
from libs.common.api_keys import DEFAULT_WORKSPACE
from libs.common.db.connection import Session, connect
from libs.common.db.migrate import upgrade
from libs.common.db.outbox import Outbox
from libs.common.db.unit_of_work import unit_of_work
from libs.common.kafka.admin import apply_topics
from libs.common.kafka.batching import MAX_BATCH
from libs.common.kafka.consumer import Consumer
from libs.common.kafka.publisher import Publisher
from libs.common.messages import Touchpoint, build_message, decode_value
from services.scoring.handlers.cycle_file_reader import read_cycles
from services.scoring.handlers.touchpoint_batch import ContactCache, TouchpointBatchHandler
from services.scoring.main import WORKERS
from services.scoring.repository.touchpoint_partitions import create_partitions
from services.scoring.repository.touchpoints import COLUMNS
from tests.support.fixed_cycles import FixedCycleRegistry
from tests.support.servers import Servers, with_database

PARTITIONS = 6

NOW = 1_780_000_000_000_000

EVENTS = (
    "Product Viewed",
    "Product List Viewed",
    "Products Searched",
    "Product Added",
    "Cart Viewed",
    "Order Completed",
)


class Measured(msgspec.Struct):
    """Figures of one run."""

    rate: float
    python_us: float
    postgres_us: float


def touchpoints(count: int, contacts: int, start: int = NOW) -> list[Touchpoint]:
    """Return live touchpoints of identified contacts in time order, about 350 bytes each."""
    chance = random.Random(1)
    events = []
    for number in range(count):
        user = chance.randrange(contacts)
        at = start + number * 50_000
        name = chance.choices(EVENTS, weights=(40, 25, 15, 10, 9, 1))[0]
        events.append(
            Touchpoint(
                workspace=DEFAULT_WORKSPACE, source="bench", message_id=f"bench-{number:08d}",
                type="track", name=name, occurred_at=at, received_at=at + 20_000,
                user_id=f"user-{user:06d}", channel="web",
                campaign={"source": "newsletter", "medium": "email"},
                properties={
                    "product_id": f"p-{chance.randrange(500)}",
                    "price": 19.9,
                    "position": number % 20,
                },
                context={
                    "locale": "en-GB",
                    "page": {"path": "/products/lamp", "referrer": "https://search.example"},
                },
            )
        )  # fmt: skip
    return events


async def fill(servers: Servers, events: list[Touchpoint]) -> int:
    """Publish the touchpoints and return the mean size of a value."""
    await apply_topics(servers.kafka, PARTITIONS)
    publisher = Publisher(servers.kafka, linger_ms=5)
    sizes = 0
    for start in range(0, len(events), 2_000):
        messages = [
            build_message(
                t, key=t.routing_key(), message_id=t.message_id, source="/bench", time=t.occurred_at
            )
            for t in events[start : start + 2_000]
        ]
        sizes += sum(len(m.value or b"") for m in messages)
        assert not any(await publisher.publish(messages, 30))
    await publisher.close()
    return sizes // len(events)


async def database(servers: Servers) -> str:
    """Return a fresh migrated database."""
    name = f"bench_{secrets.token_hex(4)}"
    connection = await asyncpg.connect(servers.database)
    await connection.execute(f'CREATE DATABASE "{name}"')
    await connection.close()
    url = with_database(servers.database, name)
    await upgrade(url)
    connection = await asyncpg.connect(url)
    await create_partitions(connection, NOW)
    await connection.close()
    return url


def postgres_cpu() -> float:
    """Return the CPU seconds of all running PostgreSQL processes."""
    total = 0.0
    for process in psutil.process_iter(["name", "cpu_times"]):
        if process.info["name"] == "postgres" and process.info["cpu_times"]:
            total += process.info["cpu_times"].user + process.info["cpu_times"].system
    return total


class Clock:
    """Wall and CPU time of a run."""

    def __enter__(self) -> Self:
        self.wall, self.python, self.postgres = (
            time.perf_counter(),
            time.process_time(),
            postgres_cpu(),
        )
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def measured(self, count: int) -> Measured:
        """Return the figures per touchpoint; call while the connections are still open."""
        wall, python = time.perf_counter() - self.wall, time.process_time() - self.python
        return Measured(
            count / wall, python / count * 1e6, (postgres_cpu() - self.postgres) / count * 1e6
        )


async def floor(servers: Servers, count: int) -> Measured:
    """Poll, decode and COPY the same rows, durable per batch."""
    url = await database(servers)
    connection = await connect(url, application="bench-floor")
    consumer: Any = AIOKafkaConsumer(
        bootstrap_servers=servers.kafka, max_partition_fetch_bytes=6 * 1_048_576
    )
    await consumer.start()
    partitions = [TopicPartition("touchpoints", p) for p in range(PARTITIONS)]
    consumer.assign(partitions)
    for tp in partitions:
        consumer.seek(tp, 0)
    remaining = count
    with Clock() as clock:
        while remaining:
            for records in (await consumer.getmany(timeout_ms=200, max_records=MAX_BATCH)).values():
                rows = [_row(decode_value(Touchpoint, r.value), r.value) for r in records]
                async with unit_of_work(connection):
                    await connection.copy_records_to_table(
                        "touchpoints", schema_name="scoring", columns=COLUMNS, records=rows
                    )
                remaining -= len(records)
        figures = clock.measured(count)
    await consumer.stop()
    await connection.close()
    return figures


def _row(t: Touchpoint, raw: bytes) -> tuple[Any, ...]:
    return (
        t.workspace, t.occurred_at, t.source, t.message_id, t.user_id, "user_id", t.user_id,
        t.anonymous_id, None, None, t.received_at, raw.decode(),
    )  # fmt: skip


async def scoring(
    servers: Servers, count: int, profile: cProfile.Profile | None = None, url: str | None = None
) -> tuple[Measured, dict[str, Any]]:
    """Run scoring's consumer and handler over all records, on a new database or a given one."""
    url = url or await database(servers)
    sessions = [Session(url, f"bench-{lane}") for lane in range(WORKERS)]
    session = sessions[0]
    cycles = read_cycles(PROJECT / "cycles")
    handler = TouchpointBatchHandler(
        sessions, Outbox("scoring", PARTITIONS), FixedCycleRegistry(cycles), ContactCache()
    )
    consumer = Consumer(
        bootstrap_servers=servers.kafka,
        group=f"bench-{secrets.token_hex(4)}",
        topics=["touchpoints"],
        handler=handler,
        workers=WORKERS,
    )
    stop = asyncio.Event()
    task = asyncio.create_task(consumer.run(stop))
    while not consumer.committed:
        await asyncio.sleep(0.005)
    if profile:
        profile.enable()
    with Clock() as clock:
        while sum(consumer.committed.values()) < count:
            await asyncio.sleep(0.01)
        figures = clock.measured(count)
    if profile:
        profile.disable()
    async with session.acquire() as connection:
        facts = await connection.fetch(
            "SELECT 'state bytes, mean', avg(length(state))::int FROM scoring.contact_states "
            "UNION ALL "
            "SELECT 'state bytes, largest', max(length(state)) FROM scoring.contact_states "
            "UNION ALL "
            "SELECT 'transitions', count(*)::int FROM scoring.transitions UNION ALL "
            "SELECT 'outbox rows', count(*)::int FROM scoring.outbox"
        )
    stop.set()
    await task
    for worker_session in sessions:
        await worker_session.close()
    return figures, {r[0]: r[1] for r in facts}
