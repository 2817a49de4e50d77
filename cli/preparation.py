"""Preparation of empty servers for the services: the schema, the first sources, the topics."""

import asyncio
import json
import os
import sys

from cli.home import PROJECT
from libs.common.db.connection import connect
from libs.common.db.migrate import upgrade
from libs.common.errors import PerigeeError
from libs.common.kafka import admin

_SOURCES = (
    ("default", "WRITE_KEY", "public"),
    ("orchestrator", "ORCHESTRATOR_WRITE_KEY", "server"),
)
_MIGRATION_LOCK = 7235194


async def migrate(environment: dict[str, str]) -> None:
    """Bring the schema up to date; write the sources `default` and `orchestrator`.

    A key of the environment that changed replaces the old one. Raises Unavailable when the
    database does not answer, PerigeeError for a key that cannot be used.
    """
    url = environment["DATABASE_URL"]
    connection = await connect(url, application="perigee-migrate")
    try:
        # Two `db migrate` at the same time run one after the other.
        await connection.execute("SELECT pg_advisory_lock($1)", _MIGRATION_LOCK)
        await upgrade(url)
        await _put_sources(
            environment,
            [
                {"source": source, "write_key": environment[variable], "trust": trust}
                for source, variable, trust in _SOURCES
                if environment.get(variable)
            ],
        )
    finally:
        await connection.close()


async def put_source(
    environment: dict[str, str], source: str, write_key: str, trust: str = "public"
) -> None:
    """Create or re-key a source of the default workspace.

    Raises PerigeeError for a key that cannot be used.
    """
    await _put_sources(environment, [{"source": source, "write_key": write_key, "trust": trust}])


async def _put_sources(environment: dict[str, str], sources: list[dict[str, str]]) -> None:
    """Write sources in a process of ingest: no running service is needed."""
    if not sources:
        return
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("PERIGEE_")
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.ingest.first_sources",
        cwd=PROJECT,
        env={**inherited, "DATABASE_URL": environment["DATABASE_URL"]},
        stdin=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate(json.dumps(sources).encode())
    if process.returncode:
        raise PerigeeError(f"the sources cannot be written: {errors.decode().strip()[-800:]}")


async def apply_topics(bootstrap_servers: str) -> list[str]:
    """Create the missing topics with PERIGEE_PARTITIONS partitions (6); return their names."""
    return await admin.apply_topics(
        bootstrap_servers, int(os.environ.get("PERIGEE_PARTITIONS", "6"))
    )
