"""The running product: its idle CPU time, the latency from ingest's 200 to the stage change on
the topic, and a backlog of a million; writes its part of docs/benchmarks.md.

    make bench-live       BENCH_IDLE=60 BENCH_RATE=1000 BENCH_SECONDS=20 BENCH_BACKLOG=1000000
"""

import asyncio
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import psutil
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from cli.servers.managed_process import ManagedProcess
from libs.common.db.connection import connect
from tests.benchmarks.report import write
from tests.benchmarks.scoring_runs import database, fill, touchpoints
from tests.support.instance import Instance
from tests.support.kafka import make_topic
from tests.support.servers import Servers, find_servers

SERVICES = ("ingest", "scoring", "orchestrator")
IDLE_PERCENT = 2.0
"""Most that the three services may take together, in percent of one core."""
SETTLE_SECONDS = 30
SENDERS = 20
EACH = 20


def percentiles(found: list[float]) -> tuple[float, float]:
    """Return p50 and p99."""
    ordered = sorted(found)
    return statistics.median(ordered), ordered[int(len(ordered) * 0.99)]


async def paced(rate: int, seconds: int, send: Callable[[int], Awaitable[None]]) -> None:
    """Call `send(number)` at a steady rate, by several senders, whatever each call takes."""
    begun = time.perf_counter()

    async def one(sender: int) -> None:
        for number in range(sender, rate * seconds, SENDERS):
            await asyncio.sleep(begun + number / rate - time.perf_counter())
            await send(number)

    await asyncio.gather(*(one(sender) for sender in range(SENDERS)))


async def arrivals(
    servers: Servers, topic: str, name_of: Callable[[Any], str | None], arrived: dict[str, float]
) -> Any:
    """Return a task that records when each name arrives on the topic, and its consumer."""
    consumer: Any = AIOKafkaConsumer(
        topic, bootstrap_servers=servers.kafka, auto_offset_reset="latest", fetch_max_wait_ms=50
    )
    await consumer.start()
    await consumer.seek_to_end()

    async def listen() -> None:
        async for found in consumer:
            name = name_of(found)
            if name:
                arrived.setdefault(name, time.perf_counter())

    return consumer, asyncio.create_task(listen())


async def through_perigee(
    servers: Servers, instance: Instance, rate: int, seconds: int, prefix: str = "l"
) -> list[float]:
    """Return the milliseconds from ingest's 200 to the stage change of the touchpoint."""
    key = await instance.create_source("latency")
    answered: dict[str, float] = {}
    arrived: dict[str, float] = {}

    def cause(found: Any) -> str | None:
        said = msgspec.json.decode(found.value)["cause"]
        name: str | None = said.get("message_id")
        return name

    consumer, listening = await arrivals(servers, "stage-changes", cause, arrived)
    async with httpx2.AsyncClient(auth=(key, ""), timeout=20, trust_env=False) as client:

        async def send(number: int) -> None:
            name = f"{prefix}{number}"
            body = [
                {
                    "type": "track",
                    "userId": f"latency-{name}",
                    "event": "Product Viewed",
                    "messageId": name,
                }
            ]
            body += [
                {
                    "type": "track",
                    "userId": f"known-{(number + n) % 500}",
                    "event": "Products Searched",
                    "messageId": f"{name}-{n}",
                }
                for n in range(1, EACH)
            ]
            answer = await client.post(f"{instance.ingest_url}/v1/batch", json={"batch": body})
            assert answer.status_code == 200, answer.text
            answered[name] = time.perf_counter()

        await paced(rate // EACH, seconds, send)
    end = time.monotonic() + 30
    while len(arrived.keys() & answered.keys()) < len(answered) and time.monotonic() < end:
        await asyncio.sleep(0.1)
    listening.cancel()
    await consumer.stop()
    assert len(arrived) >= len(answered), (
        f"{len(answered) - len(arrived)} touchpoints led to no stage change"
    )
    # A change may be read before the client has read the 200 that came first.
    return [max(0.0, arrived[name] - at) * 1_000 for name, at in answered.items()]


async def kafka_alone(servers: Servers, rate: int, seconds: int) -> list[float]:
    """Return the milliseconds through two topics, with a reader that forwards each record."""
    first, second = await make_topic(servers.kafka, 6), await make_topic(servers.kafka, 6)
    producer: Any = AIOKafkaProducer(bootstrap_servers=servers.kafka, acks="all")
    middle: Any = AIOKafkaConsumer(
        first, bootstrap_servers=servers.kafka, auto_offset_reset="latest", fetch_max_wait_ms=50
    )
    await producer.start()
    await middle.start()
    await middle.seek_to_end()
    acknowledged: dict[str, float] = {}
    arrived: dict[str, float] = {}
    consumer, listening = await arrivals(
        servers, second, lambda found: str(found.value.decode()), arrived
    )

    async def hop() -> None:
        async for found in middle:
            await producer.send(second, found.value)

    hopping = asyncio.create_task(hop())

    async def send(number: int) -> None:
        await producer.send_and_wait(first, str(number).encode())
        acknowledged[str(number)] = time.perf_counter()

    await paced(rate, seconds, send)
    await asyncio.sleep(2)
    for task in (listening, hopping):
        task.cancel()
    for client in (consumer, middle, producer):
        await client.stop()
    return [max(0.0, arrived[name] - at) * 1_000 for name, at in acknowledged.items()]


async def idle(instance: Instance, seconds: int) -> list[str]:
    """Return the CPU time that the services take without traffic, in percent of one core."""
    await asyncio.sleep(SETTLE_SECONDS)
    groups = {name: [instance.pid(name)] for name in SERVICES}
    groups["PostgreSQL"] = await _backends(instance)
    before = {name: _cpu_seconds(pids) for name, pids in groups.items()}
    began = time.perf_counter()
    await asyncio.sleep(seconds)
    elapsed = time.perf_counter() - began
    percent = {
        name: (_cpu_seconds(pids) - before[name]) / elapsed * 100 for name, pids in groups.items()
    }
    total = sum(percent[name] for name in SERVICES)
    parts = " + ".join(f"{percent[name]:.2f}" for name in SERVICES)
    if total >= IDLE_PERCENT:
        print(f"idle services take {total:.2f} % of a core", file=sys.stderr)
    return [
        f"| idle for {seconds} s, percent of one core: {' + '.join(SERVICES)} "
        f"| {parts} = {total:.2f} |",
        f"| PostgreSQL's sessions of these three meanwhile | {percent['PostgreSQL']:.2f} |",
    ]


async def _backends(instance: Instance) -> list[int]:
    """Return the server processes of the instance's sessions; none if PostgreSQL runs elsewhere."""
    connection = await connect(instance.database, application="bench")
    try:
        rows = await connection.fetch(
            "SELECT pid FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    finally:
        await connection.close()
    names = {process.pid: process.info["name"] for process in psutil.process_iter(["name"])}
    return [row["pid"] for row in rows if names.get(row["pid"]) == "postgres"]


def _cpu_seconds(pids: list[int]) -> float:
    """Return utime and stime of the processes that run."""
    seconds = 0.0
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = psutil.Process(pid).cpu_times()
            seconds += times.user + times.system
    return seconds


async def backlog(servers: Servers, instance: Instance, count: int) -> list[str]:
    """Let scoring drain a backlog; return how fast, and what memory it took on the way."""
    ManagedProcess(instance.stack.home, "scoring").stop()
    await fill(servers, touchpoints(count, 50_000, time.time_ns() // 1_000 - count * 50_000))
    before = await _stored(instance)
    await asyncio.to_thread(instance.up, 1)
    process = psutil.Process(instance.pid("scoring"))
    begun, memory = time.perf_counter(), []
    while (done := await _stored(instance) - before) < count:
        memory.append((done / count, process.memory_info().rss / 1e6))
        print(
            f"\r{done:,} of {count:,}, {memory[-1][1]:,.0f} MB ",
            end="",
            file=sys.stderr,
            flush=True,
        )
        await asyncio.sleep(1)
    seconds = time.perf_counter() - begun
    at = [
        max((mb for share, mb in memory if share <= part), default=0.0)
        for part in (0.25, 0.5, 0.75, 1.0)
    ]
    return [
        f"| a backlog of {count:,} drained, touchpoints/s, with the relay at work "
        f"| {count / seconds:,.0f} |",
        "| memory of scoring up to a quarter, half, three quarters, all of it, MB "
        f"| {' / '.join(f'{mb:,.0f}' for mb in at)} |",
    ]


async def _stored(instance: Instance) -> int:
    connection = await connect(instance.database, application="bench")
    try:
        found: int = await connection.fetchval(
            "SELECT coalesce(sum(next_offset), 0) FROM scoring.offsets"
        )
        return found
    finally:
        await connection.close()


async def main() -> None:
    """Run all of it."""
    rate, seconds, queued, quiet = (
        int(os.environ.get(f"BENCH_{name}", default))
        for name, default in (
            ("RATE", "1000"),
            ("SECONDS", "20"),
            ("BACKLOG", "1000000"),
            ("IDLE", "60"),
        )
    )
    servers = await asyncio.to_thread(find_servers)
    try:
        with tempfile.TemporaryDirectory() as folder:
            instance = Instance(
                Path(folder), servers, await database(servers), INGEST_URL="http://127.0.0.1:9"
            )
            try:
                await asyncio.to_thread(instance.up, 1)
                unused = await idle(instance, quiet)
                await through_perigee(servers, instance, 100, 3, "warm")
                alone = percentiles(await kafka_alone(servers, rate, seconds))
                perigee = percentiles(await through_perigee(servers, instance, rate, seconds))
                drained = await backlog(servers, instance, queued)
            finally:
                await asyncio.to_thread(instance.down)
    finally:
        await asyncio.to_thread(servers.stop)
    lines = [
        f"{rate:,} touchpoints a second for {seconds} s, {EACH} in a request. One touchpoint of "
        "each request is of a new contact; its stage change is measured.",
        "",
        "| the running product | |",
        "|---|---|",
        *unused,
        "| from ingest's 200 to the stage change read from the topic, p50 / p99 ms "
        f"| {perigee[0]:.1f} / {perigee[1]:.1f} |",
        f"| Kafka alone over two hops, p50 / p99 ms | {alone[0]:.1f} / {alone[1]:.1f} |",
        f"| ratio of the two, p50 | {perigee[0] / alone[0]:.1f} |",
        *drained,
    ]
    write("live", "\n".join(lines))


if __name__ == "__main__":
    asyncio.run(main())
