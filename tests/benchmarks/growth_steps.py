"""Steps of the growth benchmark, each a process of one checkout: `growth.py` calls them.

    python -m tests.benchmarks.growth_steps serve FOLDER | stop FOLDER
    python -m tests.benchmarks.growth_steps prefill URL CONTACTS STORED
    python -m tests.benchmarks.growth_steps migrate URL
    python -m tests.benchmarks.growth_steps fill KAFKA TOPIC visits|contacts CONTACTS COUNT
    python -m tests.benchmarks.growth_steps run KAFKA TOPIC COUNT URL

A step of another version of the code works on that version's schema, settings and message keys.
`serve` and `run` print one JSON line.
"""

import asyncio
import secrets
import sys
import time
from pathlib import Path
from unittest import mock

import msgspec
import psutil
import uvloop
from aiokafka.admin import NewTopic

from cli.home import PROJECT, Home
from cli.servers.postgres import PostgresServer
from libs.common.db.connection import Session
from libs.common.db.migrate import upgrade
from libs.common.db.outbox import Outbox
from libs.common.kafka import admin
from libs.common.kafka.consumer import Consumer
from libs.common.kafka.publisher import Publisher
from libs.common.messages import Message, Touchpoint, build_message
from libs.common.service_runner import tune_garbage_collector
from services.scoring.handlers import touchpoint_storage
from services.scoring.handlers.cycle_file_reader import read_cycles
from services.scoring.handlers.touchpoint_batch import ContactCache, TouchpointBatchHandler
from services.scoring.main import WORKERS
from tests.benchmarks.growth_prefill import prefill
from tests.benchmarks.postgres_counters import PostgresCounters
from tests.benchmarks.scoring_runs import PARTITIONS, touchpoints
from tests.benchmarks.visits import visits
from tests.support.fixed_cycles import FixedCycleRegistry
from tests.support.servers import _free_port

_STATISTICS = {"shared_preload_libraries": "pg_stat_statements", "max_connections": "100"}


class GrowthRun(msgspec.Struct):
    """Figures of one run; all but `rate`, `batches` and memory are per touchpoint."""

    rate: float
    python_us: float
    postgres_us: float
    wal_bytes: float
    page_images: float
    rows_written: float
    lock_wait_us: float
    resolutions_per_batch: float
    batch_size: float
    checkpoints: int
    memory_mb: int
    statements: list[tuple[float, str]]
    """(elapsed µs, statement), the longest first."""


def serve(folder: Path) -> None:
    """Start PostgreSQL in a folder with the settings of this checkout; print its DSN."""
    home = Home(folder)
    home.create()
    home.write("ports", {"postgres": _free_port()})
    server = PostgresServer(home)
    with mock.patch.dict("cli.servers.postgres._OPTIONS", _STATISTICS):
        server.start()
    server.wait()
    print(server.url())


def stop(folder: Path) -> None:
    """Stop the PostgreSQL of a folder."""
    PostgresServer(Home(folder)).stop()


async def fill(kafka: str, topic: str, load: str, contacts: int, count: int) -> None:
    """Publish a load to a topic of its own, by the keys of this checkout."""
    make = {"visits": visits, "contacts": touchpoints}[load]
    client = await admin.connect_admin(kafka)
    await client.create_topics(
        [NewTopic(topic, PARTITIONS, 1, topic_configs={"retention.ms": "-1"})]
    )
    await client.close()
    publisher = Publisher(kafka, linger_ms=5)
    events = make(count, contacts)
    for start in range(0, len(events), 2_000):
        messages = [_message(event, topic) for event in events[start : start + 2_000]]
        assert not any(await publisher.publish(messages, 30))
    await publisher.close()


def _message(event: Touchpoint, topic: str) -> Message:
    message = build_message(
        event,
        key=event.routing_key(),
        message_id=event.message_id,
        source="/bench",
        time=event.occurred_at,
    )
    return msgspec.structs.replace(message, topic=topic)


async def run(kafka: str, topic: str, count: int, url: str) -> GrowthRun:
    """Run scoring's consumer and handler over a topic, and measure it from the first batch on."""
    sessions = [Session(url, f"bench-{worker}") for worker in range(WORKERS)]
    handler = TouchpointBatchHandler(
        sessions,
        Outbox("scoring", PARTITIONS),
        FixedCycleRegistry(read_cycles(PROJECT / "cycles")),
        ContactCache(),
    )
    resolutions = _count_calls(touchpoint_storage, "_attempt")
    batches = _count_calls(handler, "handle")
    consumer = Consumer(
        bootstrap_servers=kafka,
        group=f"bench-{secrets.token_hex(4)}",
        topics=[topic],
        handler=handler,
        workers=WORKERS,
    )
    counters = await PostgresCounters.open(url)
    stopping = asyncio.Event()
    task = asyncio.create_task(consumer.run(stopping))
    while len(consumer.committed) < PARTITIONS:
        await asyncio.sleep(0.002)
    await counters.start()
    wall, python = time.perf_counter(), time.process_time()
    while sum(consumer.committed.values()) < count:
        if task.done():
            task.result()
        await asyncio.sleep(0.01)
    wall, python = time.perf_counter() - wall, time.process_time() - python
    await counters.stop()
    memory = psutil.Process().memory_info().rss >> 20
    stopping.set()
    await task
    for session in sessions:
        await session.close()
    figures = await counters.read(count)
    return GrowthRun(
        rate=count / wall,
        python_us=python / count * 1e6,
        resolutions_per_batch=resolutions[0] / batches[0],
        batch_size=count / batches[0],
        memory_mb=memory,
        **figures,
    )


def _count_calls(owner: object, name: str) -> list[int]:
    """Replace a coroutine function by one that counts its calls; return the counter."""
    calls, counted = [0], getattr(owner, name)

    async def call(*arguments: object) -> object:
        calls[0] += 1
        return await counted(*arguments)

    setattr(owner, name, call)
    return calls


def main(step: str, *arguments: str) -> None:
    """Run one step."""
    tune_garbage_collector()
    match step, arguments:
        case "serve", (folder,):
            serve(Path(folder))
        case "stop", (folder,):
            stop(Path(folder))
        case "prefill", (url, contacts, stored):
            uvloop.run(prefill(url, int(contacts), int(stored)))
        case "migrate", (url,):
            uvloop.run(upgrade(url))
        case "fill", (kafka, topic, load, contacts, count):
            uvloop.run(fill(kafka, topic, load, int(contacts), int(count)))
        case "run", (kafka, topic, count, url):
            print(msgspec.json.encode(uvloop.run(run(kafka, topic, int(count), url))).decode())
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(*sys.argv[1:])
