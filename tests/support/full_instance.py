"""Instance with its own Kafka and PostgreSQL, for tests that stop these."""

import os
from pathlib import Path

from cli.home import Home
from cli.stack import InstanceStack
from tests.support.instance import Instance
from tests.support.servers import Servers, _free_port


class FullInstance(Instance):
    """Instance that runs its servers too."""

    def __init__(self, folder: Path, **environment: str) -> None:
        """Start servers and services in `folder`."""
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
        self.database = self.stack.postgres.url()
        self.servers = Servers(self.stack.kafka.address, self.database, "", lambda: None, 1_500)
        self.options(**environment)
        self.up()

    def before_start(self) -> None:
        """Hook to change the home before the first start."""
