"""Perigee's services as processes on the test servers: start, kill, pause, inspect."""

import asyncio
import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
from aiokafka.errors import UnknownTopicOrPartitionError

from cli.home import Home
from cli.idle_detection import IdleDetector
from cli.preparation import put_source
from cli.stack import InstanceStack
from libs.common.db.connection import connect
from libs.common.kafka import admin
from libs.common.topics import TOPICS
from services.scoring.handlers.cycle_registry import DatabaseCycleRegistry
from services.scoring.handlers.replay import compare_with_stored
from services.scoring.repository import schedule
from tests.support.invariants import check_published_changes
from tests.support.servers import Servers, _free_port
from tests.support.waiting import wait_until

PARTITIONS = 6


async def clear_topics(bootstrap_servers: str) -> None:
    """Delete Perigee's topics and wait until they are absent."""
    client = await admin.connect_admin(bootstrap_servers)
    try:
        names = [t.name for t in TOPICS]
        present = [t["topic"] for t in await client.describe_topics() if t["topic"] in names]
        if present:
            await client.delete_topics(present)

        async def absent() -> bool:
            return not any(t["topic"] in names for t in await client.describe_topics())

        await wait_until(absent, what="the deletion of the topics")
    except UnknownTopicOrPartitionError:
        pass
    finally:
        await client.close()


PLAYS = Path(__file__).parent / "plays"
"""Folder with the welcome play alone, so that its mails can be counted."""


@contextmanager
def run_ingest_only(folder: Path, servers: Servers, database: str) -> Iterator["Instance"]:
    """Yield an instance of which ingest alone runs."""
    instance = Instance(folder, servers, database)
    asyncio.run(admin.apply_topics(servers.kafka, PARTITIONS))
    ingest = instance.stack.services()[0]
    ingest.start()
    ingest.wait()
    yield instance
    instance.down()


class Instance:
    """Services on given servers, with a home folder."""

    sent = 0
    """Number of the last tracking call made by `calls`."""

    def __init__(self, folder: Path, servers: Servers, database: str, **environment: str) -> None:
        self.servers = servers
        self.database = database
        os.environ["KAFKA_BOOTSTRAP_SERVERS"] = servers.kafka
        os.environ["DATABASE_URL"] = database
        home = Home(folder)
        home.create()
        names = ("mail", "ingest", "scoring", "scoring-2", "orchestrator")
        home.write("ports", {name: _free_port() for name in names})
        self.stack = InstanceStack(home)
        self.options(**environment)

    def options(self, **environment: str) -> None:
        """Set the environment that services are started with from now on."""
        defaults = {
            "PERIGEE_SESSION_TIMEOUT_MS": str(self.servers.session_timeout_ms),
            "PERIGEE_PLAYS": str(PLAYS),
        }
        self.stack.home.store_environment(environment={**defaults, **environment})

    def up(self, scoring: int = 1) -> None:
        """Start missing services."""
        self.stack.up(lambda _: None, scoring)

    def down(self) -> None:
        """Stop everything."""
        self.stack.down(lambda _: None)
        for name in ("KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL"):
            os.environ.pop(name, None)

    def pid(self, name: str) -> int:
        """Return the pid of a running service."""
        process_id: int = self.stack.home.read(f"run/{name}")["pid"]
        return process_id

    def signal(self, name: str, sign: signal.Signals) -> None:
        """Send a signal to a service."""
        os.kill(self.pid(name), sign)

    @property
    def environment(self) -> dict[str, str]:
        """Return the instance's addresses and keys."""
        return self.stack.environment()

    @property
    def ingest_url(self) -> str:
        """Return ingest's direct address, also where the services use another one."""
        return f"http://127.0.0.1:{self.stack.home.read('ports')['ingest']}"

    async def create_source(self, name: str) -> str:
        """Create a source and return its write key, accepted by ingest."""
        key = f"key-of-{name}"
        await put_source(self.environment, name, key)
        async with httpx2.AsyncClient(auth=(key, ""), trust_env=False) as client:
            url = f"{self.ingest_url}/v1/batch"

            async def accepted() -> bool:
                return (await client.post(url, json={"batch": []})).status_code != 401

            await wait_until(accepted, what=f"the key of source {name}")
        return key

    async def send(self, key: str, calls: Iterable[dict[str, Any]], size: int = 200) -> int:
        """Send calls in batches until each is accepted; return their number."""
        pending = list(calls)
        url = f"{self.ingest_url}/v1/batch"
        async with httpx2.AsyncClient(auth=(key, ""), timeout=20, trust_env=False) as client:
            for start in range(0, len(pending), size):
                batch = {"batch": pending[start : start + size]}

                async def accepted(body: dict[str, Any] = batch) -> bool:
                    try:
                        return (await client.post(url, json=body)).status_code == 200
                    except httpx2.HTTPError:
                        return False

                await wait_until(accepted, what="status 200 of ingest", every=0.1)
        return len(pending)

    def calls(self, count: int, *, subscribe: bool = False) -> list[dict[str, Any]]:
        """Return new calls; with `subscribe` they create contacts that get the welcome play."""
        calls: list[dict[str, Any]] = []
        for _ in range(count):
            self.sent += 1
            identity: dict[str, Any] = {
                "userId": f"s{self.sent}" if subscribe else f"p{self.sent // 3}"
            }
            if subscribe:
                consent = {"consent": {"categoryPreferences": {"marketing": True}}}
                email = f"{identity['userId']}@x.test"
                calls.append(
                    {**identity, "type": "identify", "traits": {"email": email}, "context": consent}
                )
            event = "Newsletter Subscribed" if subscribe else "Content Downloaded"
            calls.append(
                {**identity, "type": "track", "event": event, "messageId": f"m{self.sent}"}
            )
        return calls

    async def wait_until_idle(self, seconds: float = 150, ignore: tuple[str, ...] = ()) -> None:
        """Wait until no work is left."""
        unfinished: list[str] = []
        detector = IdleDetector(self.environment)

        async def idle() -> bool:
            unfinished[:] = await asyncio.to_thread(detector.look, ignore)
            return not unfinished

        try:
            await wait_until(idle, seconds, every=0.1)
        except AssertionError:
            raise AssertionError(unfinished) from None

    async def replay_check(self) -> dict[str, Any]:
        """Compare the stored rows with a fresh fold, in a snapshot without a timer due."""
        outcome: dict[str, Any] = await wait_until(
            self._replay_check, what="a snapshot without a timer due", every=0.1
        )
        return outcome

    async def _replay_check(self) -> dict[str, Any] | None:
        connection = await connect(self.database, application="test")
        try:
            async with connection.transaction(isolation="repeatable_read"):
                frontier = await schedule.get_frontier(connection, PARTITIONS) or -1
                cycles = [
                    cycle
                    for cycle in await DatabaseCycleRegistry().get_active_cycles(connection)
                    if cycle.live
                ]
                if await schedule.list_due_contacts(
                    connection, [c.engine.fold for c in cycles], frontier, 1
                ):
                    return None
                return await compare_with_stored(connection, cycles, frontier)
        finally:
            await connection.close()

    async def check(self) -> None:
        """Assert that all sent calls are stored once, folded equally and published in sequence."""
        await self.wait_until_idle()
        outcome = await self.replay_check()
        assert outcome["equal"], outcome
        await check_published_changes(self.servers.kafka, self.database)
        ((total, distinct),) = await self.fetch(
            "SELECT count(*), count(DISTINCT message_id) FROM scoring.touchpoints "
            "WHERE source = 'default' AND data::json->>'type' = 'track'"
        )
        assert total == distinct == self.sent

    async def fetch(self, query: str, *arguments: Any) -> list[Any]:
        """Run a query."""
        connection = await connect(self.database, application="test")
        try:
            rows: list[Any] = await connection.fetch(query, *arguments)
            return rows
        finally:
            await connection.close()
