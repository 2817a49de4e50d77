"""The narrow index of touchpoints by contact: built per partition, again after an interruption."""

import asyncpg
import pytest

from libs.common.db.migrate import upgrade
from tests.support.servers import with_database

INDEXES = """SELECT i.relname, x.indisvalid FROM pg_index x
JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid
WHERE t.relname LIKE 'touchpoints%' AND i.relname LIKE '%contact%' ORDER BY 1"""
MONTH = 30 * 86_400_000_000


@pytest.fixture
async def wide_index(servers):
    """DSN of a database of revision 0022 with rows in a month, and an empty month far ahead."""
    name = "migrated_with_wide_index"
    admin = await asyncpg.connect(servers.database)
    await admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    await admin.execute(f"CREATE DATABASE {name}")
    url = with_database(servers.database, name)
    await upgrade(url, "0022")
    connection = await asyncpg.connect(url)
    for month, start in (("2020_01", 0), ("2999_01", 10 * MONTH)):
        await connection.execute(
            f"CREATE TABLE scoring.touchpoints_{month} PARTITION OF scoring.touchpoints "
            f"FOR VALUES FROM ({start}) TO ({start + MONTH})"
        )
    await connection.execute(
        "INSERT INTO scoring.touchpoints (workspace, occurred_at, source, message_id, contact_id, "
        "received_at, data) SELECT 'default', n, 's', n::text, 'c', n, '{}' "
        "FROM generate_series(1, 100) n"
    )
    yield url, connection
    await connection.close()
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


async def test_every_partition_gets_the_narrow_index(wide_index):
    url, connection = wide_index

    await upgrade(url)

    assert [tuple(row) for row in await connection.fetch(INDEXES)] == [
        ("touchpoints_2020_01_by_contact", True),
        ("touchpoints_by_contact", True),
        ("touchpoints_default_by_contact", True),
    ]


async def test_empty_months_far_ahead_are_dropped(wide_index):
    url, connection = wide_index

    await upgrade(url)

    assert await connection.fetchval("SELECT to_regclass('scoring.touchpoints_2999_01')") is None
    assert await connection.fetchval("SELECT count(*) FROM scoring.touchpoints") == 100


async def test_interrupted_build_is_done_again(wide_index):
    url, connection = wide_index
    await connection.execute(
        "CREATE INDEX touchpoints_2020_01_by_contact "
        "ON scoring.touchpoints_2020_01 (contact_id, occurred_at)"
    )
    await connection.execute(
        "UPDATE pg_index SET indisvalid = false "
        "WHERE indexrelid = 'scoring.touchpoints_2020_01_by_contact'::regclass"
    )

    await upgrade(url)

    assert all(row["indisvalid"] for row in await connection.fetch(INDEXES))
