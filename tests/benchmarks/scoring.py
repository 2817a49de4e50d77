"""Scoring with the shipped cycle against its floor, measured by turns in one run; writes docs/benchmarks.md.

The floor polls the same records, decodes them and COPYs the same rows in durable transactions, and does nothing else.
Figures are ratios of medians over the rounds; CPU per touchpoint is the second witness, since machines are noisy.

    make bench            BENCH_TOUCHPOINTS=240000 BENCH_CONTACTS=5000 BENCH_ROUNDS=5
"""

import asyncio
import cProfile
import os
import pstats
import random
import secrets
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Self

import asyncpg
import msgspec
import psutil
import uvloop
from aiokafka import AIOKafkaConsumer, TopicPartition

from cli.home import PROJECT
from libs.common.db.connection import Session, connect
from libs.common.db.migrate import ensure_partitions, upgrade
from libs.common.db.outbox import Outbox
from libs.common.db.unit_of_work import unit_of_work
from libs.common.kafka.admin import apply_topics
from libs.common.kafka.batching import MAX_BATCH
from libs.common.kafka.consumer import Consumer
from libs.common.kafka.publisher import Publisher
from libs.common.messages import Touchpoint, build_message, decode_value
from libs.common.service_runner import tune_garbage_collector
from services.scoring.compilation import FOLD_MODULES
from services.scoring.handlers.cycle_files import read_cycles
from services.scoring.handlers.touchpoint_batch import ContactCache, TouchpointBatchHandler
from services.scoring.main import WORKERS
from services.scoring.repository.touchpoints import COLUMNS
from tests.benchmarks.report import write
from tests.support.fixed_cycles import FixedCycleRegistry
from tests.support.servers import Servers, find_servers, with_database

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
    """One run."""

    rate: float
    python_us: float
    postgres_us: float


def touchpoints(count: int, contacts: int, begin: int = NOW) -> list[Touchpoint]:
    """Return live touchpoints of known people in time order, about 350 bytes each."""
    chance = random.Random(1)
    found = []
    for number in range(count):
        person = chance.randrange(contacts)
        at = begin + number * 50_000
        name = chance.choices(EVENTS, weights=(40, 25, 15, 10, 9, 1))[0]
        found.append(
            Touchpoint(
                workspace="default", source="bench", message_id=f"bench-{number:08d}", type="track", occurred_at=at,
                received_at=at + 20_000, name=name, user_id=f"user-{person:06d}", channel="web",
                campaign={"source": "newsletter", "medium": "email"},
                properties={"product_id": f"p-{chance.randrange(500)}", "price": 19.9, "position": number % 20},
                context={"locale": "en-GB", "page": {"path": "/products/lamp", "referrer": "https://search.example"}},
            )
        )  # fmt: skip
    return found


async def fill(servers: Servers, found: list[Touchpoint]) -> int:
    """Publish the touchpoints and return the mean size of a value."""
    await apply_topics(servers.kafka, PARTITIONS)
    publisher = Publisher(servers.kafka, linger_ms=5)
    sizes = 0
    for begin in range(0, len(found), 2_000):
        messages = [
            build_message(
                t, key=t.routing_key(), message_id=t.message_id, source="/bench", time=t.occurred_at
            )
            for t in found[begin : begin + 2_000]
        ]
        sizes += sum(len(m.value or b"") for m in messages)
        assert not any(await publisher.publish(messages, 30))
    await publisher.close()
    return sizes // len(found)


async def database(servers: Servers) -> str:
    """Return a fresh migrated database."""
    name = f"bench_{secrets.token_hex(4)}"
    connection = await asyncpg.connect(servers.database)
    await connection.execute(f'CREATE DATABASE "{name}"')
    await connection.close()
    url = with_database(servers.database, name)
    await upgrade(url)
    connection = await asyncpg.connect(url)
    await ensure_partitions(connection, NOW)
    await connection.close()
    return url


def postgres_cpu() -> float:
    """Return the CPU seconds of all PostgreSQL processes of this machine's user that run now."""
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
    """Poll, decode, COPY the same rows, durable per batch."""
    url = await database(servers)
    connection = await connect(url, application="bench-floor")
    consumer: Any = AIOKafkaConsumer(
        bootstrap_servers=servers.kafka, max_partition_fetch_bytes=6 * 1_048_576
    )
    await consumer.start()
    places = [TopicPartition("touchpoints", p) for p in range(PARTITIONS)]
    consumer.assign(places)
    for tp in places:
        consumer.seek(tp, 0)
    left = count
    with Clock() as clock:
        while left:
            for records in (await consumer.getmany(timeout_ms=200, max_records=MAX_BATCH)).values():
                rows = [_row(decode_value(Touchpoint, r.value), r.value) for r in records]
                async with unit_of_work(connection):
                    await connection.copy_records_to_table(
                        "touchpoints", schema_name="scoring", columns=COLUMNS, records=rows
                    )
                left -= len(records)
        found = clock.measured(count)
    await consumer.stop()
    await connection.close()
    return found


def _row(t: Touchpoint, raw: bytes) -> tuple[Any, ...]:
    return (
        t.workspace, t.occurred_at, t.source, t.message_id, t.user_id, "user_id", t.user_id, t.anonymous_id, None, None,
        t.received_at, raw.decode(),
    )  # fmt: skip


async def scoring(
    servers: Servers, count: int, profile: cProfile.Profile | None = None, url: str | None = None
) -> tuple[Measured, dict[str, Any]]:
    """Run the product's own consumer and handler over all records, on a fresh database or a given one."""
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
        found = clock.measured(count)
    if profile:
        profile.disable()
    async with session.acquire() as connection:
        facts = await connection.fetch(
            "SELECT 'state bytes, mean', avg(length(state))::int FROM scoring.contact_states UNION ALL "
            "SELECT 'state bytes, largest', max(length(state)) FROM scoring.contact_states UNION ALL "
            "SELECT 'transitions', count(*)::int FROM scoring.transitions UNION ALL "
            "SELECT 'outbox rows', count(*)::int FROM scoring.outbox"
        )
    stop.set()
    await task
    for one in sessions:
        await one.close()
    return found, {r[0]: r[1] for r in facts}


def where_time_goes(profile: cProfile.Profile) -> list[tuple[str, float]]:
    """Return the share of own time by file, largest first."""
    shares: dict[str, float] = {}
    for (path, _, function), (_, _, own, _, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        if "poll" in function:
            continue  # waiting for PostgreSQL and Kafka
        place = "built-ins" if path == "~" else str(Path(path)).replace(str(PROJECT) + "/", "")
        place = place.split("site-packages/")[-1] if "site-packages" in place else place
        shares[place] = shares.get(place, 0.0) + own
    total = sum(shares.values())
    return sorted(((name, own / total) for name, own in shares.items()), key=lambda x: -x[1])[:12]


def report(
    size: int,
    count: int,
    contacts: int,
    floors: list[Measured],
    runs: list[Measured],
    facts: dict[str, Any],
) -> str:
    """Return the figures as a table."""

    def median(field: str, found: list[Measured]) -> float:
        return float(statistics.median(getattr(m, field) for m in found))

    ratio = median("rate", runs) / median("rate", floors)
    ratios = [run.rate / floor_.rate for run, floor_ in zip(runs, floors, strict=True)]
    lines = [
        f"{count:,} touchpoints of {contacts:,} contacts, {size} bytes each, {len(runs)} alternating rounds, "
        f"the fold {FOLD_MODULES.mode()}, Python {sys.version.split()[0]}, {os.cpu_count()} cores.",
        "",
        "| | touchpoints/s | Python µs | PostgreSQL µs |",
        "|---|---|---|---|",
        f"| floor: getmany + decode + COPY | {median('rate', floors):,.0f} | {median('python_us', floors):.1f} | "
        f"{median('postgres_us', floors):.1f} |",
        f"| scoring, shipped cycle, durable | {median('rate', runs):,.0f} | {median('python_us', runs):.1f} | "
        f"{median('postgres_us', runs):.1f} |",
        "",
        f"Ratio to the floor: **{ratio:.2f}** (rounds {min(ratios):.2f} to {max(ratios):.2f}; required 0.40 at 5 k contacts, "
        "0.30 at 500 k). CPU required: 16 + 10 µs.",
        "",
        "; ".join(f"{name} {value:,}" for name, value in facts.items()) + ".",
        f"Outbox rows per touchpoint: {facts['outbox rows'] / count:.2f}.",
    ]
    return "\n".join(lines)


async def main() -> None:
    """Run the rounds and write the page."""
    count, contacts, rounds = (
        int(os.environ.get(f"BENCH_{name}", default))
        for name, default in (("TOUCHPOINTS", "240000"), ("CONTACTS", "5000"), ("ROUNDS", "5"))
    )
    tune_garbage_collector()
    servers = await asyncio.to_thread(find_servers)
    try:
        size = await fill(servers, touchpoints(count, contacts))
        floors, runs, facts = [], [], {}
        for number in range(rounds):
            floors.append(await floor(servers, count))
            run, facts = await scoring(servers, count)
            runs.append(run)
            print(
                f"round {number + 1}/{rounds}: floor {floors[-1].rate:,.0f}/s, scoring {run.rate:,.0f}/s",
                file=sys.stderr,
            )
        profile = cProfile.Profile()
        await scoring(servers, count, profile)
        text = report(size, count, contacts, floors, runs, facts)
        shares = "\n".join(
            f"| `{name}` | {share:.0%} |" for name, share in where_time_goes(profile)
        )
        write("figures", f"{text}\n\n| own time by file (profiled) | share |\n|---|---|\n{shares}")
    finally:
        await asyncio.to_thread(servers.stop)


if __name__ == "__main__":
    uvloop.run(main())
