"""Fixtures: real servers once a run, a database for each test that needs one."""

import asyncio
import logging
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from libs.common.compilation import PUBLISHER_MODULES
from services.scoring.compilation import FOLD_MODULES
from tests.support.databases import DatabasePool
from tests.support.servers import Servers
from tests.support.shared_servers import HostedServers, end_host, lease, start_host

# A busy machine is no fault of the code: no test is decided by time.
settings.register_profile("perigee", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("perigee")
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
for part in (FOLD_MODULES, PUBLISHER_MODULES):
    part.mode()  # a stale build would make every test of compiled code worthless
_HOST = pytest.StashKey[subprocess.Popen[bytes]]()


_LONGEST_FIRST = (
    "tests/e2e/test_cli.py",
    "tests/e2e/",
    "tests/faults/test_outages.py",
    "tests/faults/",
    "tests/integration/plays/test_simulation.py",
    "tests/integration/test_consumer.py",
    "tests/integration/test_openapi.py",
    "tests/property/",
    "tests/model/",
    "tests/unit/test_uncompiled.py",
    "tests/integration/",
)
"""Paths in the order in which they start: no process ends with a long test while others idle."""
_KEPT_TOGETHER = (
    "tests/compose/",
    "tests/e2e/",  # instances on default ports, one after the other
    "tests/faults/test_outages.py",
    "tests/unit/protocol/",
    "tests/unit/test_storefront.py",
)
"""Paths whose tests share a fixture of their module or package, or ports: they get one process."""


class _Scheduler(LoadScopeScheduling):  # type: ignore[misc]
    """Gives processes one test at a time, and all tests of a path that is kept together."""

    def _split_scope(self, nodeid: str) -> str:
        return next((path for path in _KEPT_TOGETHER if nodeid.startswith(path)), nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """Return our scheduler for `--dist loadscope`."""
    return _Scheduler(config, log) if config.getvalue("dist") == "loadscope" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start long tests first. Raises UsageError for a shared fixture outside _KEPT_TOGETHER."""

    def rank(item: pytest.Item) -> int:
        matches = (n for n, path in enumerate(_LONGEST_FIRST) if item.nodeid.startswith(path))
        return next(matches, len(_LONGEST_FIRST))

    items.sort(key=rank)
    for item in items:
        by_name = getattr(item, "_fixtureinfo").name2fixturedefs  # noqa: B009
        scopes = {definition.scope for found in by_name.values() for definition in found}
        if scopes & {"package", "module"} and not item.nodeid.startswith(_KEPT_TOGETHER):
            raise pytest.UsageError(f"{item.nodeid} shares a fixture: add it to _KEPT_TOGETHER")


def pytest_configure(config: pytest.Config) -> None:
    """Start the host of the servers in the controlling process, and let SIGTERM act as Ctrl-C."""
    if not hasattr(config, "workerinput"):
        config.stash[_HOST] = start_host()
        signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the run's servers, and any process that a test has left behind."""
    if _HOST in config.stash:
        end_host(config.stash[_HOST])


@pytest.fixture(scope="session")
def hosted_servers(request: pytest.FixtureRequest) -> Iterator[HostedServers]:
    """The servers that all test processes share, and a migrated template database."""
    with lease("shared") as hosted:
        reporter = request.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line(f"\ntest servers: {hosted.why}")
        yield hosted


@pytest.fixture(scope="session")
def servers(hosted_servers: HostedServers) -> Servers:
    """A real Kafka and a real PostgreSQL, for topics and databases with names of the test's own."""
    return hosted_servers.as_servers()


@pytest.fixture
def perigee_topics(hosted_servers: HostedServers) -> Iterator[Servers]:
    """The shared PostgreSQL, and a broker whose Perigee topics are absent and this test's alone."""
    from tests.support.instance import clear_topics  # imports whole services

    with lease("topics") as hosted:
        asyncio.run(clear_topics(hosted.kafka))
        yield hosted.as_servers()


@pytest.fixture(scope="session")
def database_pool(hosted_servers: HostedServers) -> DatabasePool:
    """Migrated databases that tests take and give back."""
    return DatabasePool(hosted_servers)


@pytest.fixture
def make_database(database_pool: DatabasePool) -> Iterator[Callable[[], str]]:
    """Make migrated databases; they are dropped at the end of the test."""
    names: list[str] = []

    def make() -> str:
        names.append(asyncio.run(database_pool.create()))
        return database_pool.url(names[-1])

    yield make
    for name in names:
        asyncio.run(database_pool.drop(name))


@pytest.fixture
async def database(database_pool: DatabasePool) -> AsyncIterator[str]:
    """The DSN of a migrated database of the test's own."""
    name = await database_pool.take()
    yield database_pool.url(name)
    await database_pool.give_back(name)


@pytest.fixture
async def connection(database: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to the test's own database."""
    own = await asyncpg.connect(database)
    yield own
    await own.close()
