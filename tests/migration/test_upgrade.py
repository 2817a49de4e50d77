"""Upgrade from the first schema to the newest keeps all stored data and refolds every contact."""

import asyncpg
import msgspec
import pytest

from cli.home import PROJECT
from libs.common.db.migrate import upgrade
from libs.common.ids import derive_id, hash_parts
from services.scoring.handlers.cycle_file_reader import read_specs
from services.scoring.handlers.cycle_installation import install_cycles
from services.scoring.handlers.cycle_registry import DatabaseCycleRegistry
from services.scoring.repository.touchpoint_partitions import create_partitions
from tests.support.scoring import Scoring
from tests.support.servers import with_database
from tests.support.touchpoints import DAY, HOUR, START, identify, touchpoint

CONTACT = derive_id("contact", "default", "anonymous_id", "a")


@pytest.fixture
async def first_schema(servers):
    """Database of the first revision, with a contact that logged in on a device."""
    name = "migrated_from_the_first"
    admin = await asyncpg.connect(servers.database)
    await admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    await admin.execute(f"CREATE DATABASE {name}")
    url = with_database(servers.database, name)
    await upgrade(url, "0001")
    connection = await asyncpg.connect(url)
    await create_partitions(connection, START)
    await _insert_first_data(connection)
    await connection.close()
    yield url
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


async def _insert_first_data(connection):
    await connection.execute(
        "INSERT INTO scoring.contacts (contact_id, workspace, version) VALUES ($1, 'default', 7)",
        CONTACT,
    )
    for kind, value in (("anonymous_id", "a"), ("user_id", "u")):
        await connection.execute(
            "INSERT INTO scoring.identifiers VALUES ('default', $1, $2, $3)", kind, value, CONTACT
        )
    stored = [
        touchpoint(0, number=1),
        identify(HOUR, number=2),
        touchpoint(DAY, "Order Completed", number=3, user_id="u"),
    ]
    for t in stored:
        row = (
            t.workspace,
            t.occurred_at,
            t.source,
            t.message_id,
            CONTACT,
            t.user_id,
            t.anonymous_id,
            t.received_at,
        )
        data = msgspec.json.encode(t).decode()
        await connection.execute(
            "INSERT INTO scoring.touchpoints VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            *row,
            data,
        )
        await connection.execute(
            "INSERT INTO scoring.seen VALUES ($1, 1)",
            hash_parts(t.workspace, t.source, t.message_id),
        )
    claim = ("default", "a", START + HOUR, "web", "m2", "u")
    await connection.execute(
        "INSERT INTO scoring.device_claims VALUES ($1, $2, $3, $4, $5, $6)", *claim
    )
    published = msgspec.msgpack.encode(
        [4, [START, True, "web", "m1"], ["visitor", ["awareness", "unknown"], False, "web:m1"]]
    )
    row = (CONTACT, "engagement", 4, published, "visitor", False)
    await connection.execute(
        "INSERT INTO scoring.publications VALUES ($1, $2, $3, $4, $5, $6)", *row
    )
    await connection.execute(
        "INSERT INTO scoring.contact_states VALUES ($1, 'engagement', '1', $2, 1)",
        CONTACT,
        b"old shape",
    )
    await connection.execute("INSERT INTO scoring.cycles VALUES ('engagement', '1', $1)", b"f")


async def test_first_schema_upgrades_without_loss(first_schema):
    await upgrade(first_schema)
    scoring = Scoring(first_schema, None, DatabaseCycleRegistry())
    try:
        assert await install_cycles(scoring.sessions[1], read_specs(PROJECT / "cycles")) == [
            "engagement"
        ]

        await scoring.run_jobs()
        outcome = await scoring.replay_check()
        assert outcome["equal"], outcome
        assert (outcome["touchpoints"], outcome["contacts"]) == (3, 1)

        changes = await scoring.outbox("stage-changes")
        assert changes[0]["sequence"] == 5, "the sequence does not continue the published one"
        assert changes[0]["stage"]["from"] == "visitor"

        await scoring.ingest([touchpoint(2 * DAY, number=3), touchpoint(3 * DAY, number=4)])

        assert (await scoring.replay_check())["touchpoints"] == 4, (
            "a repeat was stored again after the upgrade"
        )
        assert (await scoring.replay_check())["equal"]
    finally:
        await scoring.close()
