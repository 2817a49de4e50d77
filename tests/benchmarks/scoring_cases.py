"""Scoring's handler without Kafka, by case: late touchpoints, a cold cache, timers, relay delay.

Each case is a ratio to the in-order rate of the same round. Writes its part of docs/benchmarks.md.

    python -m tests.benchmarks.scoring_cases

Settings: BENCH_TOUCHPOINTS=40000 BENCH_CONTACTS=5000 BENCH_ROUNDS=3.
"""

import asyncio
import os
import random
import statistics
import sys
import time
from collections.abc import Sequence

import msgspec

from cli.home import PROJECT
from libs.common.db.connection import Session
from libs.common.db.outbox import Outbox
from libs.common.db.outbox_relay import OutboxRelay
from libs.common.kafka.admin import apply_topics
from libs.common.kafka.batching import MAX_BATCH
from libs.common.kafka.publisher import Publisher
from libs.common.messages import Touchpoint
from libs.common.service_runner import tune_garbage_collector
from services.scoring.handlers.cycle_file_reader import read_cycles
from services.scoring.handlers.fold_jobs import FoldJobs
from services.scoring.handlers.touchpoint_batch import ContactCache, TouchpointBatchHandler
from services.scoring.repository import schedule
from tests.benchmarks.report import write
from tests.benchmarks.scoring_runs import NOW, PARTITIONS, database, touchpoints
from tests.support.fixed_cycles import FixedCycleRegistry
from tests.support.scoring import kafka_record
from tests.support.servers import Servers, find_servers

MINUTES = 60_000_000
_encode = msgspec.json.Encoder().encode


class HandlerBenchmark:
    """Touchpoint handler on a separate database."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = Session(url, "bench")
        self.cycles = FixedCycleRegistry(read_cycles(PROJECT / "cycles"))
        self.outbox = Outbox("scoring", PARTITIONS)
        self.handler = TouchpointBatchHandler(
            [self.session], self.outbox, self.cycles, ContactCache()
        )

    async def handle(self, events: Sequence[Touchpoint]) -> float:
        """Handle touchpoints in batches; return the rate per second."""
        offset = await self.handler.next_offset("touchpoints", 0, 0)
        values = [_encode(t) for t in events]
        started = time.perf_counter()
        for start in range(0, len(values), MAX_BATCH):
            records = [
                kafka_record(v, offset + n) for n, v in enumerate(values[start : start + MAX_BATCH])
            ]
            offset += len(records)
            await self.handler.handle(records)
        return len(events) / (time.perf_counter() - started)

    async def fire_timers(self, until: int) -> float:
        """Fire every timer due up to `until`; return the rate per second."""
        jobs = FoldJobs(self.session, self.outbox, self.cycles, PARTITIONS)
        async with self.session.acquire() as connection:
            due = await connection.fetchval(
                "SELECT count(*) FROM scoring.timers WHERE due_at <= $1", until
            )
            reached = {("touchpoints", p): until + schedule.GRACE for p in range(PARTITIONS)}
            await schedule.upsert_frontier(connection, reached)
        started = time.perf_counter()
        while await jobs.fire_timers():
            pass
        return float(due / (time.perf_counter() - started))

    async def close(self) -> None:
        """Close the connection."""
        await self.session.close()


def delayed(events: list[Touchpoint], share: float) -> list[Touchpoint]:
    """Return the touchpoints in order of arrival, a share of them late by 10 minutes on average."""
    chance = random.Random(7)
    keyed = [
        (
            t.occurred_at
            + (chance.expovariate(1 / (10 * MINUTES)) if chance.random() < share else 0),
            t,
        )
        for t in events
    ]
    return [t for _, t in sorted(keyed, key=lambda pair: pair[0])]


async def measure_round(servers: Servers, count: int, contacts: int) -> dict[str, float]:
    """Measure every case once."""
    events = touchpoints(2 * count, contacts)
    benchmark = HandlerBenchmark(await database(servers))
    await benchmark.handle(events[:count])
    in_order = await benchmark.handle(events[count:])
    benchmark.handler = TouchpointBatchHandler(
        [benchmark.session], benchmark.outbox, benchmark.cycles, ContactCache()
    )
    shift = 2 * count * 50_000
    later = [
        msgspec.structs.replace(t, message_id=f"b{t.message_id}", occurred_at=t.occurred_at + shift)
        for t in events[count:]
    ]
    cold = await benchmark.handle(later)
    timers = await benchmark.fire_timers(NOW + 400 * 24 * 60 * MINUTES)
    await benchmark.close()
    late = HandlerBenchmark(await database(servers))
    await late.handle(events[:count])
    out_of_order = await late.handle(delayed(events[count:], 0.1))
    await late.close()
    return {
        "in order, touchpoints a second": in_order,
        "10 % late by minutes, ratio to in order": out_of_order / in_order,
        "cold cache, ratio to warm": cold / in_order,
        "timers fired a second": timers,
    }


async def relay_delay(servers: Servers, count: int) -> list[float]:
    """Return the milliseconds from commit to acknowledgement of single rows, one by one."""
    benchmark = HandlerBenchmark(await database(servers))
    await apply_topics(servers.kafka, PARTITIONS)
    publisher, stop = Publisher(servers.kafka), asyncio.Event()
    relaying = asyncio.create_task(
        OutboxRelay(benchmark.url, "scoring", PARTITIONS, publisher).run(stop)
    )
    delays = []
    await asyncio.sleep(1.5)
    for t in touchpoints(count, count):
        await benchmark.handle([t])
        started = time.perf_counter()
        while True:
            async with benchmark.session.acquire() as connection:
                if not await connection.fetchval("SELECT EXISTS (SELECT FROM scoring.outbox)"):
                    break
        delays.append((time.perf_counter() - started) * 1_000)
    stop.set()
    await relaying
    await publisher.close()
    await benchmark.close()
    return sorted(delays)


async def main() -> None:
    """Run the rounds and write them to the page."""
    count, contacts, rounds = (
        int(os.environ.get(f"BENCH_{name}", default))
        for name, default in (("TOUCHPOINTS", "40000"), ("CONTACTS", "5000"), ("ROUNDS", "3"))
    )
    tune_garbage_collector()
    servers = await asyncio.to_thread(find_servers)
    try:
        measured = []
        for number in range(rounds):
            measured.append(await measure_round(servers, count, contacts))
            print(f"round {number + 1}/{rounds}: {measured[-1]}", file=sys.stderr)
        delays = await relay_delay(servers, 200)
    finally:
        await asyncio.to_thread(servers.stop)
    lines = [
        f"{count:,} touchpoints after a warm-up of as many, {contacts:,} contacts, "
        f"{rounds} rounds, medians.",
        "",
        "| case | |",
        "|---|---|",
    ]
    for name in measured[0]:
        value = statistics.median(figures[name] for figures in measured)
        lines.append(f"| {name} | {value:,.0f} |" if value > 10 else f"| {name} | {value:.2f} |")
    lines.append(
        "| from commit to acknowledgement by the broker, p50 / p99 ms "
        f"| {delays[100]:.1f} / {delays[198]:.1f} |"
    )
    write("cases", "\n".join(lines))


if __name__ == "__main__":
    asyncio.run(main())
