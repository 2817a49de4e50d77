"""A whole instance: its processes, the order of their start and stop, and its environment."""

import asyncio
import os
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import urlsplit

from cli.home import Home
from cli.servers.kafka import KafkaServer
from cli.servers.mail import MailCatcher
from cli.servers.managed_process import ManagedProcess, StartError
from cli.servers.postgres import PostgresServer
from cli.servers.service import ServiceProcess

ProgressReporter = Callable[[str], None]


class StackPart(Protocol):
    """A process of the instance."""

    name: str
    process: ManagedProcess

    def start(self) -> None: ...
    def wait(self) -> None: ...
    def ready(self) -> bool: ...
    def stop(self) -> None: ...


class InstanceStack:
    """The processes of one home.

    A Kafka or PostgreSQL given by the environment is used, not started.
    """

    def __init__(self, home: Home) -> None:
        self.home = home
        self.kafka = KafkaServer(home)
        self.postgres = PostgresServer(home)
        self.mail = MailCatcher(home)

    @property
    def _given_kafka(self) -> str | None:
        return self._given("KAFKA_BOOTSTRAP_SERVERS", self.kafka.address)

    @property
    def _given_database(self) -> str | None:
        return self._given("DATABASE_URL", self.postgres.url())

    def _given(self, variable: str, own: str) -> str | None:
        """Return the server given by the environment, else at the last `up`.

        None for the home's server.
        """
        given = os.environ.get(variable) or self.home.read("options").get(variable)
        return given if given and given != own else None

    def environment(self) -> dict[str, str]:
        """Return the environment of the services, as `perigee env` prints it."""
        ports = self.home.read("ports")
        options = self.home.read("options").get("environment", {})
        return {
            "PERIGEE_HOME": str(self.home.folder),
            "KAFKA_BOOTSTRAP_SERVERS": self._given_kafka or self.kafka.address,
            "DATABASE_URL": self._given_database or self.postgres.url(),
            "INGEST_URL": f"http://127.0.0.1:{ports.get('ingest', 0)}",
            "SCORING_URL": f"http://127.0.0.1:{ports.get('scoring', 0)}",
            "ORCHESTRATOR_URL": f"http://127.0.0.1:{ports.get('orchestrator', 0)}",
            "WRITE_KEY": self.home.get_secret("write-key"),
            "ORCHESTRATOR_WRITE_KEY": self.home.get_secret("orchestrator-write-key"),
            "STOREFRONT_WRITE_KEY": self.home.get_secret("storefront-write-key"),
            "SMTP_URL": f"smtp://127.0.0.1:{self.mail.port}",
            "MAIL_FOLDER": str(self.mail.folder),
            "PERIGEE_SERVICE_KEY": self.home.get_secret("service-key"),
            "PERIGEE_ADMIN_KEY": self.home.get_secret("admin-key"),
            "UNSUBSCRIBE_SECRET": self.home.get_secret("unsubscribe"),
            "PERIGEE_LINK_KEYS": os.environ.get("PERIGEE_LINK_KEYS")
            or self.home.get_secret("link-keys"),
            "PERIGEE_SITE": os.environ.get("PERIGEE_SITE") or "https://perigee.example",
            # In this mode webhooks are tried on the same machine first.
            "PERIGEE_PRIVATE_WEBHOOKS": "true",
            **options,
        }

    def servers(self) -> list[StackPart]:
        """Return the servers that this home runs."""
        kafka: list[StackPart] = [] if self._given_kafka else [self.kafka]
        database: list[StackPart] = [] if self._given_database else [self.postgres]
        return [*kafka, *database, self.mail]

    def services(self, scoring: int = 1) -> list[StackPart]:
        """Return Perigee's services, with `scoring` instances of scoring."""
        instances = ["scoring", *(f"scoring-{n}" for n in range(2, scoring + 1))]
        # Ports are allocated before any start: a service's environment has the addresses of the
        # others.
        for name in ("ingest", "orchestrator", *instances):
            self.home.allocate_port(name, running=ManagedProcess(self.home, name).pid is not None)
        environment = self.environment()
        return [
            ServiceProcess(self.home, name, environment)
            for name in ("ingest", *instances, "orchestrator")
        ]

    def up(self, report: ProgressReporter, scoring: int | None = None) -> None:
        """Start every missing process, in order, and return when all are ready."""
        self.home.create()
        count = scoring or int(self.home.read("options").get("scoring", 1))
        self.home.store_environment(
            scoring=count,
            KAFKA_BOOTSTRAP_SERVERS=self._given_kafka,
            DATABASE_URL=self._given_database,
        )
        with self.home.lock():
            _start(self.servers(), report)
            report("database schema and topics")
            asyncio.run(self._prepare())
            self._stop_extra_scoring(count)
            _start(self.services(count), report)

    async def _prepare(self) -> None:
        from cli.preparation import apply_topics, migrate

        environment = self.environment()
        await migrate(environment)
        await apply_topics(environment["KAFKA_BOOTSTRAP_SERVERS"])

    def _stop_extra_scoring(self, count: int) -> None:
        for name in self._process_names():
            if name.startswith("scoring-") and int(name.split("-")[1]) > count:
                ManagedProcess(self.home, name).stop()

    def down(self, report: ProgressReporter) -> None:
        """Stop everything, services before servers."""
        if not self.home.exists:
            return
        with self.home.lock():
            for name in sorted(
                (n for n in self._process_names() if not _is_server(n)), reverse=True
            ):
                if ManagedProcess(self.home, name).stop():
                    report(f"stopped {name}")
            for part in (self.mail, self.kafka, self.postgres):
                if part.process.pid is not None:
                    part.stop()
                    report(f"stopped {part.name}")

    def _process_names(self) -> list[str]:
        return [path.stem for path in (self.home.folder / "run").glob("*.json")]

    def status(self) -> list[dict[str, Any]]:
        """Return an entry for each process: name, pid, ready, url."""
        if not self.home.exists:
            return []
        count = int(self.home.read("options").get("scoring", 1))
        instances = ["scoring", *(f"scoring-{n}" for n in range(2, count + 1))]
        services: list[StackPart] = [
            ServiceProcess(self.home, name, {}) for name in ("ingest", *instances, "orchestrator")
        ]
        return [
            {
                "name": part.name,
                "pid": part.process.pid,
                "ready": part.ready(),
                "url": self._url(part),
            }
            for part in [*self.servers(), *services]
        ]

    def compiled_modules(self) -> dict[str, str]:
        """Return the mode of each part that can be compiled: `compiled` or `uncompiled`."""
        modules: dict[str, str] = {}
        if self.home.exists:
            for name in ("scoring", "ingest", "orchestrator"):
                modules |= ServiceProcess(self.home, name, {}).compiled_modules()
        return modules

    def _url(self, part: StackPart) -> str:
        if isinstance(part, ServiceProcess):
            return part.url
        if part is self.postgres:
            url = urlsplit(self.postgres.url())
            return f"postgresql://{url.hostname}:{url.port}{url.path}"
        return self.kafka.address if part is self.kafka else f"smtp://127.0.0.1:{self.mail.port}"


def _start(parts: list[StackPart], report: ProgressReporter) -> None:
    already_running = {part.name for part in parts if part.process.pid is not None}
    for part in parts:
        if part.name not in already_running:
            report(f"starting {part.name}")
        part.start()
    for part in parts:
        try:
            part.wait()
        except StartError:
            if part.name not in already_running or part.process.pid is not None:
                raise
            # The process was killed just before, and still looked alive.
            report(f"starting {part.name} again")
            part.start()
            part.wait()


def _is_server(name: str) -> bool:
    return name in ("kafka", "postgres", "mail")
