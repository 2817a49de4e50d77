"""Database of the growth benchmark: contacts with a touchpoint each, and older touchpoints."""

import msgspec

from cli.home import PROJECT
from libs.common.api_keys import DEFAULT_WORKSPACE
from libs.common.db.connection import Connection, Session, connect
from libs.common.db.migrate import upgrade
from libs.common.db.outbox import Outbox
from libs.common.instants import DAY, MINUTE
from libs.common.kafka.batching import MAX_BATCH
from libs.common.messages import Touchpoint
from services.scoring.handlers.cycle_file_reader import read_cycles
from services.scoring.handlers.touchpoint_batch import ContactCache, TouchpointBatchHandler
from services.scoring.repository.touchpoint_partitions import create_partitions
from tests.benchmarks.report import log_progress
from tests.benchmarks.scoring_runs import PARTITIONS
from tests.benchmarks.visits import FIRST_VISIT_AT, device_of, user_id
from tests.support.fixed_cycles import FixedCycleRegistry
from tests.support.scoring import kafka_record

_encode = msgspec.json.Encoder().encode
_CHUNK = 500_000


async def prefill(url: str, contacts: int, stored: int = 0) -> None:
    """Migrate an empty database and fill it by the product's own handler, then vacuum it."""
    await upgrade(url)
    connection = await connect(url, application="bench")
    await create_partitions(connection, FIRST_VISIT_AT)
    await _insert_contacts(url, contacts)
    if stored:
        await _store_older(connection, stored)
    await connection.execute("TRUNCATE scoring.outbox")
    await connection.execute("VACUUM ANALYZE", timeout=600)
    await connection.execute("CHECKPOINT", timeout=600)
    await connection.close()


async def _insert_contacts(url: str, contacts: int) -> None:
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
        if start % (20 * MAX_BATCH) == 0:
            log_progress(f"{start:,} of {contacts:,} contacts")
    await session.close()


def _first(number: int) -> Touchpoint:
    at = FIRST_VISIT_AT - 60 * MINUTE
    return Touchpoint(
        workspace=DEFAULT_WORKSPACE, source="prefill", message_id=f"old-{number}", type="track",
        name="Product Viewed", occurred_at=at, received_at=at, user_id=user_id(number),
        anonymous_id=device_of(number),
    )  # fmt: skip


async def _store_older(connection: Connection, rows: int) -> None:
    """Add older touchpoints of existing contacts over a year, and a tenth of their hashes."""
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
    for start in range(0, rows, _CHUNK):
        await connection.execute(
            "INSERT INTO scoring.touchpoints (workspace, occurred_at, source, message_id, "
            "contact_id, subject_type, subject, received_at, data) "
            "SELECT 'default', $1 - (n % 360) * 86400000000 - n, 'stored', 'stored-' || n, "
            "c.contact_id, 'user_id', c.value, $1, repeat('x', 420) "
            "FROM generate_series($2::bigint, $3::bigint) n "
            "JOIN (SELECT contact_id, value, row_number() OVER () - 1 AS number "
            "FROM scoring.identifiers WHERE type = 'user_id') c ON c.number = n % $4",
            FIRST_VISIT_AT - 2 * DAY, start, start + _CHUNK - 1, contacts, timeout=600,
        )  # fmt: skip
        await connection.execute(
            "INSERT INTO scoring.seen (hash, day) SELECT decode(md5(n::text), 'hex'), $1 "
            "FROM generate_series($2::bigint, $3::bigint) n WHERE n % 10 = 0",
            FIRST_VISIT_AT // DAY, start, start + _CHUNK - 1, timeout=600,
        )  # fmt: skip
        log_progress(f"{start + _CHUNK:,} stored")
    for name, definition in constraints:
        await connection.execute(
            f"ALTER TABLE scoring.touchpoints ADD CONSTRAINT {name} {definition}", timeout=900
        )
    for _, definition in indexes:
        await connection.execute(definition, timeout=900)
    log_progress("indexes built")
