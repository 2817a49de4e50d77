"""Fixtures: real servers once a session, a database of its own for each test that asks."""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from urllib.parse import urlsplit

import asyncpg
import pytest
from hypothesis import HealthCheck, settings

from libs.common.compilation import PUBLISHER_MODULES
from libs.common.db.migrate import ensure_partitions, upgrade
from services.ingest.compilation import FAST_PATH_MODULES
from services.scoring.compilation import FOLD_MODULES
from tests.support.servers import Servers, find_servers

# A busy machine is no fault of the code: no test is decided by time.
settings.register_profile("perigee", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("perigee")
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
for part in (FAST_PATH_MODULES, FOLD_MODULES, PUBLISHER_MODULES):
    part.mode()  # tests of what was compiled of another source would tell nothing


@pytest.fixture(scope="session")
def servers(request: pytest.FixtureRequest) -> Iterator[Servers]:
    """A real Kafka and a real PostgreSQL."""
    found = find_servers()
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.write_line(f"\ntest servers: {found.why}")
    yield found
    found.stop()


def with_database(url: str, name: str) -> str:
    """Return the DSN of another database of the same server."""
    return urlsplit(url)._replace(path=f"/{name}").geturl()


@pytest.fixture(scope="session")
def template(servers: Servers) -> str:
    """The name of a migrated database that others are cloned from."""
    name = f"template_{secrets.token_hex(4)}"
    asyncio.run(_make_template(servers.database, name))
    return name


async def _make_template(url: str, name: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(f'CREATE DATABASE "{name}"')
    await connection.close()
    await upgrade(with_database(url, name))
    connection = await asyncpg.connect(with_database(url, name))
    await ensure_partitions(connection, 1_780_000_000_000_000)
    await connection.close()


@pytest.fixture
def make_database(servers: Servers, template: str) -> Iterator[Callable[[], str]]:
    """Make migrated databases; they are dropped at the end of the test."""
    made: list[str] = []

    def make() -> str:
        name = f"test_{secrets.token_hex(6)}"
        asyncio.run(
            _execute(
                servers.database,
                f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY',
            )
        )
        made.append(name)
        return with_database(servers.database, name)

    yield make
    for name in made:
        asyncio.run(_execute(servers.database, f'DROP DATABASE "{name}" WITH (FORCE)'))


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture
async def database(servers: Servers, template: str) -> AsyncIterator[str]:
    """The DSN of a migrated database of the test's own."""
    name = f"test_{secrets.token_hex(6)}"
    await _execute(
        servers.database, f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY'
    )
    yield with_database(servers.database, name)
    await _execute(servers.database, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
async def connection(database: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to the test's own database."""
    found = await asyncpg.connect(database)
    yield found
    await found.close()
