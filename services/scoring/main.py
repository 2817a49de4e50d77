"""Wires scoring together and runs it: the consumer, the clockwork, the relay, and a side port for health."""

import asyncio

from libs.common import failpoints
from libs.common.clock import SystemClock
from libs.common.db.connection import Session
from libs.common.db.outbox import Outbox
from libs.common.db.relay import Relay
from libs.common.kafka.consumer import Consumer, Reached
from libs.common.kafka.publisher import Publisher
from libs.common.kafka.running import keep_consuming, progress_fault
from libs.common.observability import logs
from libs.common.observability.health import Health, server
from libs.common.run import every, run_service, run_together, until_available
from libs.common.settings import load
from services.scoring import compiled
from services.scoring.api import admin, contacts, cycles, doors
from services.scoring.cycles import read_files
from services.scoring.handlers.accounts import AccountJobs
from services.scoring.handlers.batch import GROUP, BatchHandler, Bounded
from services.scoring.handlers.catalogue import Stored
from services.scoring.handlers.contacts import Contacts
from services.scoring.handlers.corrections import Corrections
from services.scoring.handlers.identities import Identities
from services.scoring.handlers.install import install
from services.scoring.handlers.jobs import Jobs
from services.scoring.handlers.publishing import Publishing
from services.scoring.handlers.refolds import Refolds
from services.scoring.handlers.regroups import RegroupJob
from services.scoring.handlers.versions import Versions
from services.scoring.repository import schedule, touchpoints
from services.scoring.settings import ScoringSettings


async def serve(stop: asyncio.Event) -> None:
    """Run until `stop` is set."""
    settings: ScoringSettings = load(ScoringSettings)
    failpoints.arm(settings.failpoint)
    compiled.how()  # a stale compiled fold is refused before it runs
    files = read_files(settings.cycles)
    catalogue = Stored(settings.reaction_window)
    hot, warm, cold, look, read, write, versions_, of_accounts = sessions = [
        Session(settings.database_url, f"scoring{name}")
        for name in ("", "-2", "-jobs", "-health", "-read", "-admin", "-versions", "-accounts")
    ]
    lanes = [hot, warm]
    outbox = Outbox("scoring", settings.partitions)
    publisher = Publisher(settings.kafka_bootstrap_servers)
    relay = Relay(settings.database_url, "scoring", settings.partitions, publisher)
    jobs = Jobs(cold, outbox, catalogue, settings.partitions)
    regroups = RegroupJob(write, outbox, catalogue)
    account_jobs = AccountJobs(of_accounts, outbox, catalogue, settings.partitions)
    publishing = Publishing(versions_, outbox, catalogue)
    current: list[Consumer] = []

    async def write_frontier(reached: Reached) -> None:
        async with hot.use() as connection:
            await schedule.write_frontier(connection, reached)

    def consumer() -> Consumer:
        made = Consumer(
            bootstrap_servers=settings.kafka_bootstrap_servers,
            group=GROUP,
            topics=["touchpoints"],
            handler=BatchHandler(lanes, outbox, catalogue, Bounded()),
            lanes=len(lanes),
            session_timeout_ms=settings.session_timeout_ms,
            on_progress=write_frontier,
        )
        current[:] = [made]
        return made

    async def forget() -> bool:
        async with cold.use() as connection:
            await touchpoints.forget_seen(connection, SystemClock().now())
        return False

    async def fold() -> None:
        await until_available(lambda: install(cold, files), stop)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(keep_consuming(consumer, stop))
            tasks.create_task(every(stop, 0.5, jobs.fire_timers))
            tasks.create_task(every(stop, 0.5, jobs.refold))
            tasks.create_task(every(stop, 0.5, regroups.run))
            tasks.create_task(every(stop, 0.5, account_jobs.refold))
            tasks.create_task(every(stop, 0.5, account_jobs.fire_timers))
            tasks.create_task(every(stop, 0.5, publishing.fill))
            tasks.create_task(every(stop, 0.5, publishing.flip))
            tasks.create_task(every(stop, 0.5, publishing.tell))
            tasks.create_task(every(stop, 0.5, publishing.sweep))
            tasks.create_task(every(stop, 3600, forget))

    health = Health({"database": look.check, "kafka": publisher.check}, lambda: progress_fault(current))
    app = doors.application(
        health.routes(),
        contacts.router(Contacts(read, catalogue)),
        admin.router(Identities(write, outbox, catalogue), Corrections(write, outbox, catalogue), Refolds(read)),
        cycles.router(Versions(write)),
        service_key=settings.service_key,
        admin_key=settings.admin_key,
    )
    web = server(app, settings.host, settings.port)
    await run_together(
        stop,
        web,
        relay.run(stop),
        fold(),
    )
    await publisher.close()
    for session in sessions:
        await session.close()


def main() -> None:
    """Entry of the process."""
    logs.configure("scoring")
    run_service(serve)


if __name__ == "__main__":
    main()
