"""The orchestrator's rates of enrolling, deciding, waiting and sending, beside bare clients.

make bench-plays      BENCH_PEOPLE=10000 BENCH_WAITING=1000000
"""

import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiosmtplib
import httpcore2
import yaml

from cli.home import PROJECT
from libs.common.clock import SystemClock
from libs.common.db.connection import connect
from libs.common.ids import WorkspaceId
from services.orchestrator.channels.email import EmailChannel
from services.orchestrator.domain.gate import GateRules
from tests.benchmarks.report import write
from tests.benchmarks.scoring_runs import database
from tests.integration.plays.contacts import signal_message
from tests.support.orchestrator import MailServer, Orchestrator
from tests.support.servers import Servers, _free_port, find_servers

CONTACTS = int(os.environ.get("BENCH_PEOPLE", "10000"))
WAITING = int(os.environ.get("BENCH_WAITING", "1000000"))
BATCH = 500
MAIL = {
    "action": "mail",
    "channel": "email",
    "mail": {"subject": "Hello {{ contact.email }}", "text": "{{ unsubscribe_url }}"},
}
HOOK = {"action": "hook", "channel": "webhook", "destination": "crm", "text": "{{ contact.email }}"}
Rate = tuple[str, float, float]
"""(work, per second, milliseconds of CPU each)"""


def play(name: str, signal: str, steps: list[Any]) -> str:
    """Return a play's text."""
    entry = {"not": {"stage": ["customer", "member"]}}
    definition = {
        "play": name,
        "trigger": {"signal": signal},
        "entry": entry,
        "re_entry": "always",
        "steps": steps,
    }
    return yaml.safe_dump(definition, sort_keys=False)


async def fill(url: str, contacts: int, waiting: int) -> None:
    """Insert contacts with consent, and enrollments that wait for next year."""
    connection = await connect(url, application="bench")
    await connection.execute(
        "INSERT INTO scoring.contacts (contact_id, workspace, profile) SELECT 'c' || n, 'default', "
        '\'{"email":["c\' || n || \'@x.test",0,"s","m"]}\' FROM generate_series(1, $1::int) n',
        max(contacts, waiting),
    )
    await connection.execute(
        "INSERT INTO orchestrator.consents SELECT 'default', 'c' || n, 'marketing', true, 0, 's' "
        "FROM generate_series(1, $1::int) n",
        contacts,
    )
    await connection.execute(
        "INSERT INTO orchestrator.enrollments (enrollment_id, workspace, contact_id, play, cause, "
        "entered_at, number, status, reason, due_at) "
        "SELECT 'e' || n, 'default', 'c' || n, 'later', 's', 0, 1, 'active', '', $2::bigint + n "
        "FROM generate_series(1, $1::int) n",
        waiting,
        SystemClock().now() + 366 * 86_400_000_000,
    )
    for table in ("scoring.contacts", "orchestrator.enrollments", "orchestrator.consents"):
        await connection.execute(f"ANALYZE {table}")
    await connection.close()


class Stopwatch:
    """Wall and CPU time since its creation."""

    def __init__(self) -> None:
        self.start, self.cpu = time.perf_counter(), time.process_time()

    def rate(self, work: str, count: int) -> Rate:
        """Return the rate and the CPU milliseconds of each of `count`."""
        return (
            work,
            count / (time.perf_counter() - self.start),
            (time.process_time() - self.cpu) * 1_000 / count,
        )


async def enroll(orchestrator: Orchestrator, signal: str, numbers: range) -> Rate:
    """Enroll contacts by a signal."""
    values = [signal_message(f"c{n}", signal, orchestrator.clock.now(), n) for n in numbers]
    stopwatch = Stopwatch()
    for start in range(0, len(values), BATCH):
        await orchestrator.consume(values[start : start + BATCH])
    return stopwatch.rate("enrolled by a signal, with the first action", len(values))


async def drain(orchestrator: Orchestrator, work: str, count: int) -> Rate:
    """Decide and send all due actions, lane by lane."""
    stopwatch = Stopwatch()
    while lanes := await orchestrator.dispatcher.list_lanes():
        for lane in lanes:
            while (await orchestrator.dispatcher.dispatch_batch(lane))[0]:
                pass
    return stopwatch.rate(work, count)


async def bare_mails(port: int, count: int) -> Rate:
    """Send mails over four connections with the SMTP client alone."""
    body = (
        b"From: a@x.test\r\nTo: b@x.test\r\nSubject: Hello\r\n\r\n" + b"https://x.test/u/token" * 8
    )
    clients = [aiosmtplib.SMTP(hostname="127.0.0.1", port=port) for _ in range(4)]
    for client in clients:
        await client.connect()

    async def send(client: aiosmtplib.SMTP) -> None:
        for _ in range(count // 4):
            await client.sendmail("a@x.test", ["b@x.test"], body)

    stopwatch = Stopwatch()
    await asyncio.gather(*map(send, clients))
    rate = stopwatch.rate("the SMTP client alone, 4 connections", count // 4 * 4)
    for client in clients:
        client.close()
    return rate


async def bare_hooks(url: str, count: int) -> Rate:
    """Post webhooks, eight at once, with the HTTP client alone."""
    async with httpcore2.AsyncConnectionPool(max_connections=8) as pool:

        async def post() -> None:
            for number in range(count // 8):
                headers = [("webhook-id", str(number)), ("content-type", "application/json")]
                await pool.request(
                    "POST", url, headers=headers, content=b'{"data":{}}' + b" " * 400
                )

        stopwatch = Stopwatch()
        await asyncio.gather(*(post() for _ in range(8)))
        return stopwatch.rate("the HTTP client alone, 8 at once", count // 8 * 8)


async def measure(url: str, smtp: int, hook: str, waiting: int) -> tuple[list[Rate], float]:
    """Measure one population; return rates and the median ms from a signal to its mail."""
    mailbox = MailServer()
    orchestrator = Orchestrator(url, mailbox, GateRules(cap_per_day=1_000, cap_per_week=1_000))
    orchestrator.channels["email"] = EmailChannel(
        f"smtp://127.0.0.1:{smtp}", "Perigee <hello@x.test>"
    )
    orchestrator.clock.instant = SystemClock().now()
    await orchestrator.install(shipped=False)
    await fill(url, CONTACTS, waiting)
    destination = yaml.safe_dump({"destination": "crm", "channel": "webhook", "url": hook})
    await orchestrator.definitions.define(
        WorkspaceId("default"), "destination", destination, "bench", "bench"
    )
    for name, signal, steps in (
        ("mails", "quote_requested", [MAIL]),
        ("hooks", "trial_started", [HOOK]),
        ("waits", "order_completed", [{"wait": "1h"}, {"exit": "enough"}]),
        ("refused", "complaint", [{**MAIL, "content": {"types": ["none"]}}]),
    ):
        await orchestrator.publish(play(name, signal, steps))
    half = CONTACTS // 4
    rates = [await enroll(orchestrator, "complaint", range(1, CONTACTS + 1))]
    rates.append(await drain(orchestrator, "decided by the gate and refused", CONTACTS))
    await enroll(orchestrator, "order_completed", range(1, CONTACTS + 1))
    orchestrator.clock.instant += 3_600_000_000
    stopwatch = Stopwatch()
    while await orchestrator.runner.advance_due():
        pass
    rates.append(stopwatch.rate("due waits, advanced", CONTACTS))
    await enroll(orchestrator, "quote_requested", range(1, half + 1))
    rates += [
        await drain(orchestrator, "mails: decided, reserved, sent, recorded", half),
        await bare_mails(smtp, half),
    ]
    await enroll(orchestrator, "trial_started", range(1, half + 1))
    rates += [
        await drain(orchestrator, "webhooks: decided, reserved, sent, recorded", half),
        await bare_hooks(hook, half),
    ]
    latencies = []
    for number in range(half + 1, half + 101):
        started = time.perf_counter()
        await orchestrator.consume(
            [signal_message(f"c{number}", "quote_requested", orchestrator.clock.now(), number)]
        )
        (lane,) = await orchestrator.dispatcher.list_lanes()
        await orchestrator.dispatcher.dispatch_batch(lane)
        latencies.append((time.perf_counter() - started) * 1_000)
    await orchestrator.close()
    return rates, statistics.median(latencies)


async def main(servers: Servers) -> None:
    """Measure a small and a large population, and write the page."""
    port, hook_port = _free_port(), _free_port()
    folder = Path(tempfile.mkdtemp())
    sink = [
        sys.executable,
        "-m",
        "aiosmtpd",
        "-n",
        "-l",
        f"127.0.0.1:{port}",
        "-c",
        "aiosmtpd.handlers.Sink",
    ]
    receiver = [
        sys.executable,
        "-m",
        "tests.support.webhook_receiver",
        str(hook_port),
        str(folder / "seen"),
    ]
    helper_processes = [
        await asyncio.create_subprocess_exec(*command, cwd=PROJECT) for command in (sink, receiver)
    ]
    await asyncio.sleep(2)
    lines = [f"{CONTACTS:,} contacts, one process, PostgreSQL on the same machine.", ""]
    lines += ["| | waiting enrollments | per second | ms of CPU each |", "|---|---|---|---|"]
    try:
        for waiting in (10_000, WAITING):
            url = await database(servers)
            rates, delay = await measure(url, port, f"http://127.0.0.1:{hook_port}/hook", waiting)
            lines += [
                f"| {work} | {waiting:,} | {rate:,.0f} | {cpu:.2f} |" for work, rate, cpu in rates
            ]
            lines.append(
                "| from a signal to its mail at the SMTP server (median, ms) "
                f"| {waiting:,} | {delay:.1f} | |"
            )
            print("\n".join(lines[-9:]))
    finally:
        for process in helper_processes:
            process.kill()
    write("plays", "\n".join(lines))


if __name__ == "__main__":
    test_servers = find_servers()
    try:
        asyncio.run(main(test_servers))
    finally:
        test_servers.stop()
