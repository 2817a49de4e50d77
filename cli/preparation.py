"""What stands between empty servers and running services: the schema, the first sources, the topics."""

import os

import msgspec

from libs.common.clock import SystemClock
from libs.common.db.connection import connect
from libs.common.db.migrate import ensure_partitions, upgrade
from libs.common.kafka import admin
from services.ingest.domain.source import Source
from services.ingest.repository import sources as repository

_SOURCES = (
    ("default", "WRITE_KEY", "public"),
    ("orchestrator", "ORCHESTRATOR_WRITE_KEY", "server"),
)


async def migrate(environment: dict[str, str]) -> None:
    """Bring the schema up to date and put in the sources `default` and `orchestrator` with the keys given.

    A key that changed replaces the old one. Raises Unavailable when the database does not answer.
    """
    url = environment["DATABASE_URL"]
    connection = await connect(url, application="perigee-migrate")
    try:
        await connection.execute(
            "SELECT pg_advisory_lock(7235194)"
        )  # two `db migrate` at once: one after the other
        await upgrade(url)
        await ensure_partitions(connection, SystemClock().now())
        for source, variable, trust in _SOURCES:
            if environment.get(variable):
                await put_source(environment, source, environment[variable], trust)
    finally:
        await connection.close()


async def put_source(
    environment: dict[str, str], source: str, write_key: str, trust: str = "public"
) -> None:
    """Insert or re-key a source of the default workspace; the key is stored as its SHA-256 only."""
    connection = await connect(environment["DATABASE_URL"], application="perigee-source")
    try:
        async with connection.transaction():
            place = ("default", source)
            if await repository.get_source_for_update(connection, place) is None:
                await repository.upsert_source(
                    connection, msgspec.structs.replace(Source(*place), trust=trust)
                )
            if await repository.insert_key(connection, place, write_key):
                await repository.update_key_ends(connection, place, 0, but=write_key)
    finally:
        await connection.close()


async def apply_topics(bootstrap_servers: str) -> list[str]:
    """Create the missing topics; PERIGEE_PARTITIONS says how many partitions (6)."""
    return await admin.apply_topics(
        bootstrap_servers, int(os.environ.get("PERIGEE_PARTITIONS", "6"))
    )
