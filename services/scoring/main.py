"""Wires scoring together and runs it: the consumer, the clockwork, the relay, and a side port for health."""

import asyncio
from collections.abc import Awaitable, Callable

import uvicorn

from libs.common import failpoints
from libs.common.clock import SystemClock
from libs.common.db.api_keys import DatabaseKeyStore
from libs.common.db.connection import Session
from libs.common.db.gauges import INTERVAL_SECONDS, GaugeCollector, collect_database_gauges, outbox_gauges
from libs.common.db.outbox import Outbox
from libs.common.db.outbox_relay import OutboxRelay
from libs.common.http.authentication import AuthenticationMiddleware
from libs.common.kafka.consumer import Consumer, Frontiers
from libs.common.kafka.publisher import Publisher
from libs.common.kafka.supervisor import check_progress, supervise_consumer
from libs.common.observability import logs, tracing
from libs.common.observability.health import Check, HealthChecks, build_server
from libs.common.service_runner import retry_until_available, run_jobs_and_server, run_periodically, run_service
from libs.common.settings import load_settings
from services.scoring.api import admin, changes, compelling, contacts, cycles, doors
from services.scoring.compiled import FOLD
from services.scoring.cycles import read_files
from services.scoring.handlers.accounts import AccountJobs
from services.scoring.handlers.batch import GROUP, BatchHandler, Bounded
from services.scoring.handlers.catalogue import Stored
from services.scoring.handlers.compelling import Compelling
from services.scoring.handlers.contacts import Contacts
from services.scoring.handlers.corrections import Corrections
from services.scoring.handlers.identities import Identities
from services.scoring.handlers.install import install
from services.scoring.handlers.jobs import Jobs
from services.scoring.handlers.published import Changes
from services.scoring.handlers.publishing import Publishing
from services.scoring.handlers.refolds import Refolds
from services.scoring.handlers.regroups import RegroupJob
from services.scoring.handlers.versions import Versions
from services.scoring.repository import schedule, touchpoints
from services.scoring.settings import ScoringSettings

LANES = 3
"""How many partitions are taken side by side: while PostgreSQL works for some, Python works for another."""

KEPT = ("stage-changes", "signals", "compelling-events")
"""The topics that can be read from the log as well: by cursor and by webhook."""


class Process:
    """The parts of one scoring process, wired together. Each user of the database has a connection of its own."""

    def __init__(self, settings: ScoringSettings) -> None:
        self.settings = settings
        self.sessions: list[Session] = []
        self.files = read_files(settings.cycles)
        self.catalogue = Stored(settings.reaction_window)
        self.outbox = Outbox("scoring", settings.partitions)
        self.publisher = Publisher(settings.kafka_bootstrap_servers)
        self.lanes = [self.session(f"lane-{number}") for number in range(1, LANES + 1)]
        self.upkeep = self.session("upkeep")
        self.consumers: list[Consumer] = []

    def session(self, name: str) -> Session:
        """Return a connection of its own for one user."""
        self.sessions.append(Session(self.settings.database_url, f"scoring-{name}"))
        return self.sessions[-1]

    def consumer(self) -> Consumer:
        """Return a consumer of touchpoints; the last one made is the one at work."""
        made = Consumer(
            bootstrap_servers=self.settings.kafka_bootstrap_servers,
            group=GROUP,
            topics=["touchpoints"],
            handler=BatchHandler(self.lanes, self.outbox, self.catalogue, Bounded()),
            lanes=len(self.lanes),
            session_timeout_ms=self.settings.session_timeout_ms,
            on_progress=self.write_frontier,
        )
        self.consumers[:] = [made]
        return made

    def jobs(self) -> list[tuple[float, Callable[[], Awaitable[bool]]]]:
        """Return what is looked at again and again, and every how many seconds."""
        parts = (self.outbox, self.catalogue)
        contacts_ = Jobs(self.session("jobs"), *parts, self.settings.partitions)
        accounts = AccountJobs(self.session("accounts"), *parts, self.settings.partitions)
        publishing = Publishing(self.session("versions"), *parts)
        regroups = RegroupJob(self.session("regroups"), *parts)
        often = [contacts_.fire_timers, contacts_.refold, regroups.run, accounts.refold, accounts.fire_timers]
        often.append(Compelling(self.session("reminders"), self.outbox, SystemClock()).remind)
        often += [publishing.fill, publishing.flip, publishing.tell, publishing.sweep]
        looks = (outbox_gauges("scoring"), collect_database_gauges, schedule.watch)
        watching = GaugeCollector(self.session("watching"), looks)
        return [*((0.5, job) for job in often), (INTERVAL_SECONDS, watching.collect), (3600, self.forget)]

    def web(self) -> uvicorn.Server:
        """Return the server of health and of both doors."""
        health_session, read, log, write = (self.session(name) for name in ("health", "read", "log", "admin"))
        checks: dict[str, Check] = {"database": health_session.check, "kafka": self.publisher.check}
        parts = (self.outbox, self.catalogue)
        admin_app = doors.application(
            HealthChecks(checks, lambda: check_progress(self.consumers)).routes(),
            [
                contacts.router(Contacts(read, self.catalogue)),
                changes.router(Changes(log, self.settings.partitions)),
                compelling.router(Compelling(self.session("events"), self.outbox, SystemClock())),
            ],
            [
                admin.router(Identities(write, *parts), Corrections(write, *parts), Refolds(read)),
                cycles.router(Versions(write)),
            ],
        )
        keys = DatabaseKeyStore(self.session("keys"), self.settings.admin_key, self.settings.service_key)
        guarded_app = AuthenticationMiddleware(admin_app, ("/admin/", "/v1/"), keys)
        return build_server(guarded_app, self.settings.host, self.settings.port)

    async def write_frontier(self, reached: Frontiers) -> None:
        """Note how far the partitions are known."""
        async with self.upkeep.acquire() as connection:
            await schedule.write_frontier(connection, reached)

    async def forget(self) -> bool:
        """Forget the hashes of old repeats."""
        async with self.upkeep.acquire() as connection:
            await touchpoints.forget_seen(connection, SystemClock().now())
        return False

    async def fold(self, stop: asyncio.Event) -> None:
        """Fold until `stop`: nothing before the cycles are installed."""
        await retry_until_available(lambda: install(self.upkeep, self.files), stop)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(supervise_consumer(self.consumer, stop))
            for seconds, job in self.jobs():
                tasks.create_task(run_periodically(stop, seconds, job))

    async def close(self) -> None:
        """Close every connection."""
        await self.publisher.close()
        for session in self.sessions:
            await session.close()


async def serve(stop: asyncio.Event) -> None:
    """Run until `stop` is set."""
    settings: ScoringSettings = load_settings(ScoringSettings)
    tracing.configure_tracing("scoring", settings.otlp_endpoint)
    failpoints.arm(settings.failpoint)
    FOLD.mode()  # a stale compiled fold is refused before it runs
    process = Process(settings)
    relay = OutboxRelay(settings.database_url, "scoring", settings.partitions, process.publisher, KEPT)
    await run_jobs_and_server(stop, process.web(), relay.run(stop), process.fold(stop))
    await process.close()


def main() -> None:
    """Entry of the process."""
    logs.configure_logging("scoring")
    run_service(serve)


if __name__ == "__main__":
    main()
