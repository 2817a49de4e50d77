"""Ingest against bare uvicorn, decoding alone and a `send` per touchpoint, by turns; writes its part of docs/benchmarks.md.

    make bench-ingest     BENCH_ROUNDS=5 BENCH_ROWS=1000000

What is compared is requests (or events) per second of the server's CPU, so that the sender's own work does not count.
"""

import asyncio
import base64
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import psutil

from libs.common.kafka.admin import apply_topics
from tests.benchmarks.report import write
from tests.benchmarks.scoring import database
from tests.support.instance import PARTITIONS, Instance
from tests.support.servers import Servers, _free_port, find_servers

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
CONNECTIONS = 64
KINDS = ("bare", "decode", "publish", "least", "send", "perigee")
UNUSED = {("bare", 100), ("decode", 1), ("publish", 1)}
NEW = "perigee, each context new"
PEOPLE = 5_000
ROWS = int(os.environ.get("BENCH_ROWS", "1000000"))


def call(number: int, *, new: bool = False) -> dict[str, object]:
    """Return an event as a browser's library sends it, about 600 bytes.

    Its context is one of 3,600 (300 pages, 12 browsers), or has a click id of its own and was never said before.
    """
    person, product = number * 7_919 % PEOPLE, number % 300
    search = f"?gclid={uuid.uuid4()}" if new else ""
    return {
        "type": "track",
        "event": "Product Viewed",
        "messageId": f"node-next-{time.time_ns() // 1_000_000}-{uuid.uuid4()}",
        "userId": f"user-{person:06d}",
        "anonymousId": f"device-{person:06d}",
        "timestamp": f"2026-05-28T20:{number // 60_000 % 60:02d}:{number // 1_000 % 60:02d}.{number % 1_000:03d}Z",
        "properties": {"product_id": f"p-{product}", "price": 19.9, "category": "shoes"},
        "context": {
            "library": {"name": "analytics.js", "version": "2.1"},
            "locale": "en-GB",
            "userAgent": f"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/{130 + person % 12}.0 Safari/537.36",
            "page": {
                "path": f"/p/{product}",
                "url": f"https://shop.test/p/{product}{search}",
                "referrer": "https://www.google.com/",
                "search": search,
            },
        },
    }


def requests(port: int, key: str, count: int, events: int, *, new: bool = False) -> list[bytes]:
    """Return whole requests with `events` each, whose contexts are `new` or not."""
    auth = base64.b64encode(f"{key}:".encode()).decode()
    found = []
    for number in range(count):
        if events == 1:
            path, body = "/v1/track", json.dumps(call(number, new=new)).encode()
        else:
            calls = [call(number * events + n, new=new) for n in range(events)]
            path, body = (
                "/v1/batch",
                json.dumps({"batch": calls, "sentAt": "2026-05-28T20:26:41Z"}).encode(),
            )
        head = (
            f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nauthorization: Basic {auth}\r\n"
            f"content-type: application/json\r\nuser-agent: analytics/2.4\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        found.append(head.encode() + body)
    return found


async def drive(port: int, waiting: list[bytes]) -> None:
    """Send the requests over kept connections, each connection one at a time; every answer is a 200."""
    turns = iter(waiting)

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for request in turns:
            writer.write(request)
            answer = await reader.readuntil(b'{"success":true}')
            assert answer.startswith(b"HTTP/1.1 200"), answer
        writer.close()

    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))


async def measure(
    pid: int, port: int, key: str, count: int, events: int, *, new: bool = False
) -> tuple[float, float]:
    """Return (events per second of the server's CPU, events per second)."""
    waiting = requests(port, key, count, events, new=new)
    process = psutil.Process(pid)
    before, begun = sum(process.cpu_times()[:2]), time.perf_counter()
    await drive(port, waiting)
    spent = sum(process.cpu_times()[:2]) - before
    return count * events / spent, count * events / (time.perf_counter() - begun)


async def compare(servers: Servers, folder: Path) -> None:
    """Measure all kinds by turns and write the page."""
    instance = Instance(folder, servers, await database(servers))
    await apply_topics(servers.kafka, PARTITIONS)
    ingest = instance.stack.services()[0]
    ingest.start()
    ingest.wait()
    key = await instance.create_source("bench")
    running = {"perigee": (instance.pid("ingest"), int(instance.ingest_url.rpartition(":")[2]))}
    processes = []
    for kind in KINDS[:-1]:
        port = _free_port()
        process = subprocess.Popen(  # noqa: ASYNC220
            [sys.executable, "-m", "tests.benchmarks.http_baselines", kind, str(port)]
        )
        processes.append(process)
        running[kind] = (process.pid, port)
    try:
        await asyncio.sleep(3)
        rates: dict[tuple[str, int], list[tuple[float, float]]] = {}
        for turn in range(ROUNDS + 1):
            for events, count in ((1, 10_000), (100, 800)):
                for kind, (pid, port) in running.items():
                    if (kind, events) in UNUSED:
                        continue
                    found = await measure(pid, port, key, count, events)
                    if turn:  # the first warms up
                        rates.setdefault((kind, events), []).append(found)
            print(f"round {turn} of {ROUNDS}", file=sys.stderr, flush=True)
        for _ in range(ROUNDS):  # last, since it leaves nothing of what the others are known by
            rates.setdefault((NEW, 100), []).append(
                await measure(*running["perigee"], key, 400, 100, new=True)
            )
        memory = psutil.Process(instance.pid("ingest")).memory_info().rss / 1e6
        write(
            "ingest",
            "\n".join([page(rates, memory), await asyncio.to_thread(imported, instance, folder)]),
        )
    finally:
        for process in processes:
            process.terminate()
            process.wait(10)
        instance.down()


def imported(instance: Instance, folder: Path) -> str:
    """Import a file by the command and say how fast, and with how much memory at each quarter."""
    file = folder / "orders.csv"
    with file.open("w") as rows:
        rows.write("userId,event,timestamp,properties.total,properties.order_id\n")
        for number in range(ROWS):
            rows.write(
                f"user-{number % PEOPLE},Order Completed,2026-05-{number % 28 + 1:02d}T10:00:00Z,{number}.5,o-{number}\n"
            )
    begun = time.perf_counter()
    command = [sys.executable, "-m", "cli.main", "import", str(file), "--source", "bench"]
    process = subprocess.Popen(
        command, env={**os.environ, "PERIGEE_HOME": str(folder)}, stderr=subprocess.DEVNULL
    )
    seen = []
    while process.poll() is None:
        time.sleep(0.25)
        try:
            seen.append(
                psutil.Process(process.pid).memory_info().rss / 1e6 or seen[-1]
            )  # none is left of a zombie
        except psutil.NoSuchProcess:
            break
    assert process.wait() == 0
    quarters = " / ".join(f"{seen[len(seen) * n // 4 - 1]:.0f}" for n in (1, 2, 3, 4))
    rate = ROWS / (time.perf_counter() - begun)
    return f"`perigee import` of {ROWS:,} rows: {rate:,.0f} a second; memory at each quarter {quarters} MB."


def page(rates: dict[tuple[str, int], list[tuple[float, float]]], memory: float) -> str:
    """Return the figures as Markdown."""

    def ratio(events: int, kind: str, door: str = "perigee") -> str:
        rounds = zip(rates[door, events], rates[kind, events], strict=True)
        found = [mine[0] / theirs[0] for mine, theirs in rounds]
        return f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"

    def rate(kind: str, events: int) -> str:
        per_cpu, per_second = (
            statistics.median(column) for column in zip(*rates[kind, events], strict=True)
        )
        return f"{per_cpu:,.0f} | {per_second:,.0f}"

    lines = [
        f"| one process, {CONNECTIONS} connections, {ROUNDS} rounds, medians | events per CPU second | events per second |",
        "|---|---|---|",
    ]
    lines += [
        f"| {kind}, {events} a request | {rate(kind, events)} |"
        for events in (1, 100)
        for kind in (*KINDS, NEW)
        if (kind, events) in rates
    ]
    return "\n".join(
        [
            *lines,
            "",
            f"One event a request: {ratio(1, 'bare')} of bare uvicorn; {ratio(1, 'send')} times a `send` per event; "
            f"{ratio(1, 'least')} of the least that a door does.",
            f"A hundred a request: {ratio(100, 'decode')} of decoding alone; {ratio(100, 'send')} times a `send` per event; "
            f"{ratio(100, 'least')} of the least that a door does.",
            f"Publishing a hundred without reading them: {ratio(100, 'decode', 'publish')} of decoding alone.",
            f"Ingest's memory at the end: {memory:.0f} MB.",
        ]
    )


def main() -> None:
    """Run it on servers of its own, or those that the environment names."""
    servers = find_servers()
    try:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(compare(servers, Path(folder)))
    finally:
        servers.stop()


if __name__ == "__main__":
    main()
