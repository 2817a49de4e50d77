"""The orchestrator: enrolling, deciding, waiting, sending; against a bare client of the same servers, and as enrollments grow.

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
from services.orchestrator.channels.email import EmailChannel
from services.orchestrator.domain.gate import GateRules
from tests.benchmarks.report import write
from tests.benchmarks.scoring import database
from tests.integration.plays.contacts import signal_message
from tests.support.orchestrator import MailServer, Orchestrator
from tests.support.servers import Servers, _free_port, find_servers

PEOPLE = int(os.environ.get("BENCH_PEOPLE", "10000"))
WAITING = int(os.environ.get("BENCH_WAITING", "1000000"))
BATCH = 500
MAIL = {
    "action": "mail",
    "channel": "email",
    "mail": {"subject": "Hello {{ contact.email }}", "text": "{{ unsubscribe_url }}"},
}
HOOK = {"action": "hook", "channel": "webhook", "destination": "crm", "text": "{{ contact.email }}"}
Rate = tuple[str, float, float]
"""(what, a second, milliseconds of CPU each)"""


def play(name: str, asked: str, steps: list[Any]) -> str:
    """Return a play's text."""
    entry = {"not": {"stage": ["customer", "member"]}}
    whole = {
        "play": name,
        "trigger": {"signal": asked},
        "entry": entry,
        "re_entry": "always",
        "steps": steps,
    }
    return yaml.safe_dump(whole, sort_keys=False)


async def fill(url: str, people: int, waiting: int) -> None:
    """Make people, all with consent but those whose number ends in 9, and enrollments that wait for next year."""
    connection = await connect(url, application="bench")
    await connection.execute(
        "INSERT INTO scoring.contacts (contact_id, workspace, profile) SELECT 'c' || n, 'default', "
        '\'{"email":["c\' || n || \'@x.test",0,"s","m"]}\' FROM generate_series(1, $1::int) n',
        max(people, waiting),
    )
    await connection.execute(
        "INSERT INTO orchestrator.consents SELECT 'default', 'c' || n, 'marketing', true, 0, 's' "
        "FROM generate_series(1, $1::int) n",
        people,
    )
    await connection.execute(
        "INSERT INTO orchestrator.enrollments (enrollment_id, workspace, contact_id, play, cause, entered_at, number, status, "
        "reason, due_at) SELECT 'e' || n, 'default', 'c' || n, 'later', 's', 0, 1, 'active', '', $2::bigint + n "
        "FROM generate_series(1, $1::int) n",
        waiting,
        SystemClock().now() + 366 * 86_400_000_000,
    )
    for table in ("scoring.contacts", "orchestrator.enrollments", "orchestrator.consents"):
        await connection.execute(f"ANALYZE {table}")
    await connection.close()


class Clocked:
    """Measures a stretch of work."""

    def __init__(self) -> None:
        self.begun, self.cpu = time.perf_counter(), time.process_time()

    def rate(self, what: str, count: int) -> Rate:
        """Return what was done a second, and the CPU of each."""
        return (
            what,
            count / (time.perf_counter() - self.begun),
            (time.process_time() - self.cpu) * 1_000 / count,
        )


async def enroll(one: Orchestrator, asked: str, people: range) -> Rate:
    """Let people enter by a signal."""
    values = [signal_message(f"c{n}", asked, one.clock.now(), n) for n in people]
    clocked = Clocked()
    for begin in range(0, len(values), BATCH):
        await one.consume(values[begin : begin + BATCH])
    return clocked.rate("enrolled by a signal, with the first action", len(values))


async def drain(one: Orchestrator, what: str, count: int) -> Rate:
    """Decide and send all that is due, lane by lane."""
    clocked = Clocked()
    while lanes := await one.dispatcher.list_lanes():
        for lane in lanes:
            while (await one.dispatcher.dispatch_batch(lane))[0]:
                pass
    return clocked.rate(what, count)


async def bare_mails(port: int, count: int) -> Rate:
    """Send as many mails over as many connections with the client alone."""
    body = (
        b"From: a@x.test\r\nTo: b@x.test\r\nSubject: Hello\r\n\r\n" + b"https://x.test/u/token" * 8
    )
    clients = [aiosmtplib.SMTP(hostname="127.0.0.1", port=port) for _ in range(4)]
    for client in clients:
        await client.connect()

    async def send(client: aiosmtplib.SMTP) -> None:
        for _ in range(count // 4):
            await client.sendmail("a@x.test", ["b@x.test"], body)

    clocked = Clocked()
    await asyncio.gather(*map(send, clients))
    found = clocked.rate("the SMTP client alone, 4 connections", count // 4 * 4)
    for client in clients:
        client.close()
    return found


async def bare_hooks(url: str, count: int) -> Rate:
    """Post as many webhooks, eight at once, with the client alone."""
    async with httpcore2.AsyncConnectionPool(max_connections=8) as pool:

        async def post() -> None:
            for number in range(count // 8):
                headers = [("webhook-id", str(number)), ("content-type", "application/json")]
                await pool.request(
                    "POST", url, headers=headers, content=b'{"data":{}}' + b" " * 400
                )

        clocked = Clocked()
        await asyncio.gather(*(post() for _ in range(8)))
        return clocked.rate("the HTTP client alone, 8 at once", count // 8 * 8)


async def measure(url: str, smtp: int, hook: str, waiting: int) -> tuple[list[Rate], float]:
    """Measure one population; return the rates, and the median time from a signal to the reservation of its mail (ms)."""
    mailbox = MailServer()
    one = Orchestrator(url, mailbox, GateRules(cap_per_day=1_000, cap_per_week=1_000))
    one.channels["email"] = EmailChannel(f"smtp://127.0.0.1:{smtp}", "Perigee <hello@x.test>")
    one.clock.instant = SystemClock().now()
    await one.install(shipped=False)
    await fill(url, PEOPLE, waiting)
    place = yaml.safe_dump({"destination": "crm", "channel": "webhook", "url": hook})
    await one.definitions.define("default", "destination", place, "bench", "bench")
    for name, asked, steps in (
        ("mails", "quote_requested", [MAIL]),
        ("hooks", "trial_started", [HOOK]),
        ("waits", "order_completed", [{"wait": "1h"}, {"exit": "enough"}]),
        ("refused", "complaint", [{**MAIL, "content": {"types": ["none"]}}]),
    ):
        await one.publish(play(name, asked, steps))
    half = PEOPLE // 4
    rates = [await enroll(one, "complaint", range(1, PEOPLE + 1))]
    rates.append(await drain(one, "decided by the gate and refused", PEOPLE))
    await enroll(one, "order_completed", range(1, PEOPLE + 1))
    one.clock.instant += 3_600_000_000
    clocked = Clocked()
    while await one.runner.advance_due():
        pass
    rates.append(clocked.rate("due waits, advanced", PEOPLE))
    await enroll(one, "quote_requested", range(1, half + 1))
    rates += [
        await drain(one, "mails: decided, reserved, sent, recorded", half),
        await bare_mails(smtp, half),
    ]
    await enroll(one, "trial_started", range(1, half + 1))
    rates += [
        await drain(one, "webhooks: decided, reserved, sent, recorded", half),
        await bare_hooks(hook, half),
    ]
    took = []
    for number in range(half + 1, half + 101):
        begun = time.perf_counter()
        await one.consume(
            [signal_message(f"c{number}", "quote_requested", one.clock.now(), number)]
        )
        (lane,) = await one.dispatcher.list_lanes()
        await one.dispatcher.dispatch_batch(lane)
        took.append((time.perf_counter() - begun) * 1_000)
    await one.close()
    return rates, statistics.median(took)


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
    others = [
        await asyncio.create_subprocess_exec(*command, cwd=PROJECT) for command in (sink, receiver)
    ]
    await asyncio.sleep(2)
    lines = [f"{PEOPLE:,} contacts, one process, PostgreSQL on the same machine.", ""]
    lines += ["| | waiting enrollments | per second | ms of CPU each |", "|---|---|---|---|"]
    try:
        for waiting in (10_000, WAITING):
            url = await database(servers)
            rates, delay = await measure(url, port, f"http://127.0.0.1:{hook_port}/hook", waiting)
            lines += [
                f"| {what} | {waiting:,} | {rate:,.0f} | {cpu:.2f} |" for what, rate, cpu in rates
            ]
            lines.append(
                f"| from a signal to its mail at the SMTP server (median, ms) | {waiting:,} | {delay:.1f} | |"
            )
            print("\n".join(lines[-9:]))
    finally:
        for process in others:
            process.kill()
    write("plays", "\n".join(lines))


if __name__ == "__main__":
    found = find_servers()
    try:
        asyncio.run(main(found))
    finally:
        found.stop()
