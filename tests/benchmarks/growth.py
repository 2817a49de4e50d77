"""Cost of a touchpoint as contacts and stored touchpoints grow; part of docs/benchmarks.md.

Every size has a database whose contacts exist before the measurement, each with a state. The floor
is measured beside each.

    make bench-growth     BENCH_TOUCHPOINTS=240000 BENCH_SIZES=5000,10000,100000,500000,1000000
                          BENCH_STORED=10000000
"""

import asyncio
import os
import sys
import time

import msgspec
import uvloop

from cli.home import PROJECT
from libs.common.api_keys import DEFAULT_WORKSPACE
from libs.common.db.connection import Session, connect
from libs.common.db.outbox import Outbox
from libs.common.kafka.batching import MAX_BATCH
from libs.common.messages import Touchpoint
from libs.common.service_runner import tune_garbage_collector
from services.scoring.handlers.cycle_files import read_cycles
from services.scoring.handlers.touchpoint_batch import ContactCache, TouchpointBatchHandler
from tests.benchmarks.report import write
from tests.benchmarks.scoring_runs import (
    NOW,
    PARTITIONS,
    Measured,
    database,
    fill,
    floor,
    scoring,
    touchpoints,
)
from tests.support.fixed_cycles import FixedCycleRegistry
from tests.support.instance import clear_topics
from tests.support.scoring import kafka_record
from tests.support.servers import Servers, find_servers

_encode = msgspec.json.Encoder().encode
MINUTE = 60_000_000


def log_progress(text: str) -> None:
    """Print progress to standard error."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


async def with_contacts(servers: Servers, contacts: int) -> str:
    """Return a database whose contacts have one touchpoint each, by the product's handler."""
    url = await database(servers)
    session = Session(url, "bench-prefill")
    handler = TouchpointBatchHandler(
        [session],
        Outbox("scoring", PARTITIONS),
        FixedCycleRegistry(read_cycles(PROJECT / "cycles")),
        ContactCache(),
    )
    # A partition that the measured stream does not have, so that the offsets do not collide.
    await handler.next_offset("touchpoints", PARTITIONS, 0)
    for start in range(0, contacts, MAX_BATCH):
        numbers = range(start, min(start + MAX_BATCH, contacts))
        await handler.handle(
            [
                kafka_record(_encode(_first(number)), number, partition=PARTITIONS)
                for number in numbers
            ]
        )
    await session.close()
    await analyze(url)
    return url


def _first(number: int) -> Touchpoint:
    at = NOW - 60 * MINUTE
    return Touchpoint(
        workspace=DEFAULT_WORKSPACE, source="prefill", message_id=f"old-{number}", type="track",
        name="Product Viewed", occurred_at=at, received_at=at, user_id=f"user-{number:06d}",
    )  # fmt: skip


async def analyze(url: str) -> None:
    """Truncate the outbox of the prefill, and vacuum and analyze the database."""
    connection = await connect(url, application="bench")
    await connection.execute("TRUNCATE scoring.outbox")
    await connection.execute("VACUUM ANALYZE", timeout=600)
    await connection.execute("CHECKPOINT", timeout=600)
    await connection.close()


async def store(url: str, rows: int) -> None:
    """Add older touchpoints of existing contacts over a year, and a tenth of their hashes."""
    connection = await connect(url, application="bench")
    await connection.execute(
        "SET statement_timeout = 0; SET maintenance_work_mem = '512MB'; "
        "SET synchronous_commit = off"
    )
    constraints = await connection.fetch(
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE conrelid = 'scoring.touchpoints'::regclass AND contype = 'u'"
    )
    indexes = await connection.fetch(
        "SELECT indexname, indexdef FROM pg_indexes "
        "WHERE (schemaname, tablename) = ('scoring', 'touchpoints') AND indexname <> ALL ($1)",
        [r[0] for r in constraints],
    )
    # Built at the end, each in one go, as a restored backup has them.
    for name, _ in constraints:
        await connection.execute(f"ALTER TABLE scoring.touchpoints DROP CONSTRAINT {name}")
    for name, _ in indexes:
        await connection.execute(f"DROP INDEX scoring.{name}")
    contacts = await connection.fetchval(
        "SELECT count(*) FROM scoring.identifiers WHERE type = 'user_id'"
    )
    chunk = 500_000
    for start in range(0, rows, chunk):
        await connection.execute(
            "INSERT INTO scoring.touchpoints (workspace, occurred_at, source, message_id, "
            "contact_id, subject_type, subject, received_at, data) "
            "SELECT 'default', $1 - (n % 360) * 86400000000 - n, 'stored', 'stored-' || n, "
            "c.contact_id, 'user_id', c.value, $1, repeat('x', 420) "
            "FROM generate_series($2::bigint, $3::bigint) n "
            "JOIN (SELECT contact_id, value, row_number() OVER () - 1 AS number "
            "FROM scoring.identifiers WHERE type = 'user_id') c ON c.number = n % $4",
            NOW - 2 * 86_400_000_000, start, start + chunk - 1, contacts, timeout=600,
        )  # fmt: skip
        await connection.execute(
            "INSERT INTO scoring.seen (hash, day) SELECT decode(md5(n::text), 'hex'), $1 "
            "FROM generate_series($2::bigint, $3::bigint) n WHERE n % 10 = 0",
            NOW // 86_400_000_000, start, start + chunk - 1, timeout=600,
        )  # fmt: skip
        log_progress(f"{start + chunk:,} stored")
    for name, definition in constraints:
        await connection.execute(
            f"ALTER TABLE scoring.touchpoints ADD CONSTRAINT {name} {definition}", timeout=900
        )
    for _, definition in indexes:
        await connection.execute(definition, timeout=900)
    log_progress("indexes built")
    await connection.close()
    await analyze(url)


async def measure(
    servers: Servers, count: int, contacts: int, stored: int = 0
) -> tuple[Measured, Measured]:
    """Return (floor, scoring) of a stream of existing contacts."""
    await clear_topics(servers.kafka)
    await fill(servers, touchpoints(count, contacts))
    url = await with_contacts(servers, contacts)
    log_progress(f"{contacts:,} contacts exist")
    if stored:
        await store(url, stored)
    below = await floor(servers, count)
    run, _ = await scoring(servers, count, url=url)
    log_progress(f"floor {below.rate:,.0f}/s, scoring {run.rate:,.0f}/s")
    return below, run


def row(name: str, below: Measured, run: Measured) -> str:
    """Return a row of the table."""
    cpu = f"{run.python_us:.1f} + {run.postgres_us:.1f}"
    return f"| {name} | {run.rate:,.0f} | {run.rate / below.rate:.2f} | {cpu} |"


async def main() -> None:
    """Measure each size once."""
    count = int(os.environ.get("BENCH_TOUCHPOINTS", "240000"))
    sizes = [
        int(s) for s in os.environ.get("BENCH_SIZES", "5000,10000,100000,500000,1000000").split(",")
    ]
    stored = int(os.environ.get("BENCH_STORED", "10000000"))
    tune_garbage_collector()
    servers = await asyncio.to_thread(find_servers)
    lines = [
        f"{count:,} touchpoints of existing contacts, one round per row.",
        "",
        "| | touchpoints/s | ratio to the floor | CPU µs, Python + PostgreSQL |",
        "|---|---|---|---|",
    ]
    try:
        for contacts in sizes:
            below, run = await measure(servers, count, contacts)
            lines.append(row(f"{contacts:,} contacts", below, run))
        if stored:
            name = f"10,000 contacts, {stored:,} stored touchpoints"
            lines.append(row(name, *await measure(servers, count, 10_000, stored)))
    finally:
        await asyncio.to_thread(servers.stop)
        write("growth", "\n".join(lines))


if __name__ == "__main__":
    uvloop.run(main())
