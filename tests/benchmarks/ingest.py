"""Benchmark of ingest: against bare uvicorn, decoding alone and a `send` per touchpoint.

    make bench-ingest     BENCH_ROUNDS=5 BENCH_ROWS=1000000

The unit is events per second of the server's CPU, so that the sender's own work does not count. All
servers are measured in each round on the same requests. The result is a part of docs/benchmarks.md.
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
from pathlib import Path

import psutil

from libs.common.kafka.admin import apply_topics
from tests.benchmarks.ingest_events import EventGenerator, InputKind
from tests.benchmarks.report import write
from tests.benchmarks.scoring_runs import database
from tests.support.instance import PARTITIONS, Instance
from tests.support.servers import Servers, _free_port, find_servers

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
ROWS = int(os.environ.get("BENCH_ROWS", "1000000"))
CONNECTIONS = 64
CONTACTS = 5_000
REQUESTS = {1: 8_000, 100: 500}
"""Requests of one measurement, by events a request."""
BASELINES = ("bare", "decode", "publish", "least", "send")
SWITCHED_OFF = {
    "general path": "the fast path",
    "aiokafka batches": "the wire encoding",
    "ASGI": "the buffered protocol",
}
"""Ingest with one machinery off (tests/benchmarks/http_baselines.py)."""
ALL_ON = "all on"
"""The same with none off. It differs from Perigee's own process by the source of its write keys."""
PERIGEE = "perigee"
NOT_MEASURED = {("bare", 100), ("decode", 1), ("publish", 1)}
Measurement = tuple[float, float]
"""Events per second of the server's CPU; events per second."""
Case = tuple[str, InputKind, int]
"""Server, input, events a request."""


def requests(generator: EventGenerator, kind: InputKind, key: str, events: int) -> list[bytes]:
    """Return whole HTTP requests with `events` each."""
    auth = base64.b64encode(f"{key}:".encode()).decode()
    prepared = []
    for _ in range(REQUESTS[events]):
        if events == 1:
            path, body = "/v1/track", json.dumps(generator.event(kind)).encode()
        else:
            batch = [generator.event(kind) for _ in range(events)]
            body = json.dumps({"batch": batch, "sentAt": "2026-05-28T20:26:41Z"}).encode()
            path = "/v1/batch"
        head = (
            f"POST {path} HTTP/1.1\r\nhost: ingest.test\r\nauthorization: Basic {auth}\r\n"
            "content-type: application/json\r\nuser-agent: analytics/2.4\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        prepared.append(head.encode() + body)
    return prepared


async def send_requests(port: int, prepared: list[bytes]) -> None:
    """Send the requests over kept connections, each connection one at a time; assert a 200 each."""
    pending = iter(prepared)

    async def _connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for request in pending:
            writer.write(request)
            answer = await reader.readuntil(b'{"success":true}')
            assert answer.startswith(b"HTTP/1.1 200"), answer
        writer.close()

    await asyncio.gather(*(_connection() for _ in range(CONNECTIONS)))


async def wait_until_listening(port: int) -> None:
    """Wait for a server's start, at most 30 s."""
    async with asyncio.timeout(30):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.1)
            else:
                writer.close()
                return


async def measure(pid: int, port: int, prepared: list[bytes], events: int) -> Measurement:
    """Send the requests to a server and return its rates."""
    process, count = psutil.Process(pid), len(prepared) * events
    cpu_before, started = sum(process.cpu_times()[:2]), time.perf_counter()
    await send_requests(port, prepared)
    cpu_seconds = sum(process.cpu_times()[:2]) - cpu_before
    return count / cpu_seconds, count / (time.perf_counter() - started)


def cases() -> list[tuple[InputKind, int, tuple[str, ...]]]:
    """Return (input, events a request, servers): websites for all, the other inputs for ingest."""
    everything = (*BASELINES, ALL_ON, *SWITCHED_OFF, PERIGEE)
    measured = []
    for events in REQUESTS:
        for kind in InputKind:
            servers = everything if kind is InputKind.WEBSITES else ("decode", PERIGEE)
            measured.append(
                (kind, events, tuple(s for s in servers if (s, events) not in NOT_MEASURED))
            )
    return measured


async def compare(servers: Servers, folder: Path) -> None:
    """Measure all servers in each round and write the page."""
    instance = Instance(folder, servers, await database(servers))
    await apply_topics(servers.kafka, PARTITIONS)
    ingest = instance.stack.services()[0]
    ingest.start()
    ingest.wait()
    key = await instance.create_source("bench")
    running = {PERIGEE: (instance.pid("ingest"), int(instance.ingest_url.rpartition(":")[2]))}
    processes = []
    for name in (*BASELINES, ALL_ON, *SWITCHED_OFF):
        port = _free_port()
        process = subprocess.Popen(  # noqa: ASYNC220
            [sys.executable, "-m", "tests.benchmarks.http_baselines", name, str(port)]
        )
        processes.append(process)
        running[name] = (process.pid, port)
    try:
        for _, port in running.values():
            await wait_until_listening(port)
        rates: dict[Case, list[Measurement]] = {}
        generator = EventGenerator(CONTACTS, seed=1)
        for number in range(ROUNDS + 1):
            for kind, events, names in cases():
                prepared = requests(generator, kind, key, events)
                start = number % len(names)  # no server is always measured after the same one
                for name in (*names[start:], *names[:start]):
                    measurement = await measure(*running[name], prepared, events)
                    if number:  # the first round warms up
                        rates.setdefault((name, kind, events), []).append(measurement)
            print(f"round {number} of {ROUNDS}", file=sys.stderr, flush=True)
        memory = psutil.Process(instance.pid("ingest")).memory_info().rss / 1e6
        figures = page(rates, memory)
        write("ingest", figures)  # kept if the import fails
        write("ingest", f"{figures}\n{await asyncio.to_thread(imported, instance, folder)}")
    finally:
        for process in processes:
            process.terminate()
            process.wait(10)
        instance.down()


def imported(instance: Instance, folder: Path) -> str:
    """Import a file by the command; return its rate and memory as a sentence."""
    file = folder / "orders.csv"
    with file.open("w") as rows:
        rows.write("userId,event,timestamp,properties.total,properties.order_id\n")
        for number in range(ROWS):
            day = f"2026-05-{number % 28 + 1:02d}T10:00:00Z"
            rows.write(f"user-{number % CONTACTS},Order Completed,{day},{number}.5,o-{number}\n")
    command = [sys.executable, "-m", "cli.main", "import", str(file), "--source", "bench"]
    environment = {**os.environ, "PERIGEE_HOME": str(folder)}
    started = time.perf_counter()
    with (folder / "import.log").open("w") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        megabytes: list[float] = []
        while process.poll() is None:
            time.sleep(0.25)
            try:
                resident = psutil.Process(process.pid).memory_info().rss / 1e6
            except psutil.NoSuchProcess:
                break
            megabytes.append(resident or megabytes[-1])  # a zombie has none
    assert process.wait() == 0, (folder / "import.log").read_text()
    rate = ROWS / (time.perf_counter() - started)
    quarters = " / ".join(f"{megabytes[len(megabytes) * n // 4 - 1]:.0f}" for n in (1, 2, 3, 4))
    return (
        f"`perigee import` of {ROWS:,} rows: {rate:,.0f} a second; "
        f"memory at each quarter {quarters} MB."
    )


def page(rates: dict[Case, list[Measurement]], memory: float) -> str:
    """Return the figures as Markdown."""

    def ratio(case: Case, baseline: Case) -> str:
        rounds = zip(rates[case], rates[baseline], strict=True)
        ratios = [ours[0] / theirs[0] for ours, theirs in rounds]
        return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"

    def website(name: str, events: int, of: str = PERIGEE) -> str:
        return ratio((of, InputKind.WEBSITES, events), (name, InputKind.WEBSITES, events))

    lines = [
        f"| one process, {CONNECTIONS} connections, {ROUNDS} rounds, medians "
        "| events per CPU second | events per second |",
        "|---|---|---|",
    ]
    measured_cases = [(n, kind, events) for kind, events, names in cases() for n in names]
    for name, kind, events in measured_cases:
        measured = rates[name, kind, events]
        per_cpu, per_second = (statistics.median(column) for column in zip(*measured, strict=True))
        lines.append(
            f"| {name}, {kind.value}, {events} a request | {per_cpu:,.0f} | {per_second:,.0f} |"
        )
    batch = {kind: ratio((PERIGEE, kind, 100), ("decode", kind, 100)) for kind in InputKind}
    lines += [
        "",
        f"Websites, one event a request: {website('bare', 1)} of bare uvicorn; "
        f"{website('send', 1)} times a `send` per event; {website('least', 1)} of the least.",
        f"Websites, a hundred a request: {website('decode', 100)} of decoding alone; "
        f"{website('send', 100)} times a `send` per event; {website('least', 100)} of the least.",
        "Of decoding alone, a hundred a request: "
        + "; ".join(f"{kind.value} {text}" for kind, text in batch.items())
        + f"; publishing without reading {website('decode', 100, 'publish')}.",
        "",
        "| websites, times the rate without | one a request | a hundred a request |",
        "|---|---|---|",
        *(
            f"| {machinery} | {website(name, 1, ALL_ON)} | {website(name, 100, ALL_ON)} |"
            for name, machinery in SWITCHED_OFF.items()
        ),
        "",
        f"Ingest's memory at the end: {memory:.0f} MB.",
    ]
    return "\n".join(lines)


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
