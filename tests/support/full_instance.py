"""A whole Perigee with its own Kafka and PostgreSQL, for tests that take these away."""

import os
from pathlib import Path
from typing import Any

from cli.home import Home
from cli.stack import InstanceStack
from tests.support.instance import PLAYS, Instance
from tests.support.invariants import check_published_changes
from tests.support.servers import Servers, _free_port


class FullInstance(Instance):
    """An instance that runs its servers too."""

    def __init__(self, folder: Path, **environment: str) -> None:
        """Start everything in `folder`."""
        for name in ("KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL"):
            os.environ.pop(name, None)
        home = Home(folder)
        home.create()
        names = (
            "kafka",
            "kafka-controller",
            "postgres",
            "mail",
            "ingest",
            "scoring",
            "orchestrator",
        )
        home.write("ports", {name: _free_port() for name in names})
        self.stack = InstanceStack(home)
        self.before_start()
        self.options(**environment)
        self.up()
        self.database = self.stack.postgres.url()
        self.servers = Servers(self.stack.kafka.address, self.database, "", lambda: None, 1_500)
        self.sent = 0

    def before_start(self) -> None:
        """Change the home before anything runs in it."""

    def options(self, **environment: str) -> None:
        """Set what the services are started with from now on."""
        given = {"PERIGEE_SESSION_TIMEOUT_MS": "1500", "PERIGEE_PLAYS": str(PLAYS)}
        self.stack.home.store_environment(environment={**given, **environment})

    def calls(self, count: int, *, subscribe: bool = False) -> list[dict[str, Any]]:
        """Return calls nobody has sent before; with `subscribe` they make contacts that are welcomed."""
        found: list[dict[str, Any]] = []
        for _ in range(count):
            self.sent += 1
            person: dict[str, Any] = {
                "userId": f"s{self.sent}" if subscribe else f"p{self.sent // 3}"
            }
            if subscribe:
                consent = {"consent": {"categoryPreferences": {"marketing": True}}}
                email = f"{person['userId']}@x.test"
                found.append(
                    {**person, "type": "identify", "traits": {"email": email}, "context": consent}
                )
            event = "Newsletter Subscribed" if subscribe else "Content Downloaded"
            found.append({**person, "type": "track", "event": event, "messageId": f"m{self.sent}"})
        return found

    async def check(self) -> None:
        """Assert that everything sent is stored once, folded right and published lawfully."""
        await self.wait_until_idle()
        outcome = await self.replay_check()
        assert outcome["equal"], outcome
        await check_published_changes(self.servers.kafka, self.database)
        ((total, distinct),) = await self.fetch(
            "SELECT count(*), count(DISTINCT message_id) FROM scoring.touchpoints WHERE source = 'default' "
            "AND data::json->>'type' = 'track'"
        )
        assert total == distinct == self.sent
