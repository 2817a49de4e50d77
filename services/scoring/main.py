"""Composition root of scoring: the consumer, the periodic jobs, the relay and the HTTP server."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import uvicorn
from fastapi import APIRouter

from libs.common import failpoints
from libs.common.clock import SystemClock
from libs.common.compilation import PUBLISHER_MODULES
from libs.common.db.api_keys import DatabaseKeyStore
from libs.common.db.connection import Session
from libs.common.db.gauges import (
    INTERVAL_SECONDS,
    GaugeCollector,
    collect_database_gauges,
    outbox_gauges,
)
from libs.common.db.notifications import Wakeups
from libs.common.db.outbox import Outbox
from libs.common.db.outbox_quarantine import OutboxQuarantineService
from libs.common.db.outbox_relay import OutboxRelay
from libs.common.http.app_factory import build_app
from libs.common.http.authentication import AuthenticationMiddleware
from libs.common.http.outbox_admin import operations_router
from libs.common.kafka.consumer import Consumer
from libs.common.kafka.progress_reporter import Frontiers
from libs.common.kafka.publisher import Publisher
from libs.common.kafka.supervisor import check_progress, supervise_consumer
from libs.common.observability import logs, tracing
from libs.common.observability.health import Check, HealthChecks, build_server
from libs.common.service_runner import (
    retry_until_available,
    run_jobs_and_server,
    run_periodically,
    run_service,
    run_when_due,
)
from libs.common.settings import load_settings
from services.scoring.api import (
    compelling_events,
    contacts,
    cycles,
    identities,
    replay,
    stage_changes,
    statistics,
)
from services.scoring.api.asyncapi import asyncapi_route
from services.scoring.compilation import FOLD_MODULES
from services.scoring.handlers.account_jobs import AccountJobs
from services.scoring.handlers.compelling_events import CompellingEventService
from services.scoring.handlers.contact_timeline import ContactTimelineService
from services.scoring.handlers.contacts import ContactService
from services.scoring.handlers.corrections import CorrectionService
from services.scoring.handlers.cycle_file_reader import read_specs
from services.scoring.handlers.cycle_installation import install_cycles
from services.scoring.handlers.cycle_registry import DatabaseCycleRegistry
from services.scoring.handlers.cycle_versions import CycleVersionService
from services.scoring.handlers.deferred_links import DeferredLinkJob
from services.scoring.handlers.fold_jobs import FoldJobs
from services.scoring.handlers.identities import IdentityService
from services.scoring.handlers.published_messages import PublishedMessageService
from services.scoring.handlers.refold_queue_status import RefoldQueue
from services.scoring.handlers.replay_service import ReplayService, ReplaySettings
from services.scoring.handlers.statistics import ContactStatisticsService
from services.scoring.handlers.touchpoint_batch import GROUP, ContactCache, TouchpointBatchHandler
from services.scoring.handlers.version_rollout import ROUNDS_PER_SECOND, VersionRollout
from services.scoring.handlers.work_status import ScoringStatusService
from services.scoring.repository import (
    accounts,
    cycle_versions,
    fold_states,
    identity_links,
    schedule,
    touchpoint_partitions,
    touchpoints,
)
from services.scoring.repository import compelling_events as compelling_events_rows
from services.scoring.settings import ScoringSettings

WORKERS = 3
"""Partitions processed concurrently: Python works on one while PostgreSQL works on others."""

LOGGED_TOPICS = ("stage-changes", "signals", "compelling-events")
"""The topics kept in the published-message log, for the cursor API and webhooks."""


class ScoringProcess:
    """The parts of one scoring process; each part that uses the database has its own session."""

    def __init__(self, settings: ScoringSettings) -> None:
        self.settings = settings
        self.sessions: list[Session] = []
        self.files = read_specs(settings.cycles)
        self.catalogue = DatabaseCycleRegistry(settings.reaction_window)
        self.outbox = Outbox("scoring", settings.partitions)
        self.publisher = Publisher(settings.kafka_bootstrap_servers)
        self.lanes = [self.session(f"lane-{number}") for number in range(1, WORKERS + 1)]
        self.upkeep = self.session("upkeep")
        self.wakeups = Wakeups(settings.database_url, "scoring-wakeups")
        self.timers_due = (asyncio.Event(), asyncio.Event())
        """Events of the timer jobs: contacts, accounts."""
        self.consumers: list[Consumer] = []

    def session(self, name: str) -> Session:
        """Return a new database session; `name` becomes part of its application name."""
        self.sessions.append(Session(self.settings.database_url, f"scoring-{name}"))
        return self.sessions[-1]

    def consumer(self) -> Consumer:
        """Return a new consumer of touchpoints, which replaces the last one in health checks."""
        consumer = Consumer(
            bootstrap_servers=self.settings.kafka_bootstrap_servers,
            group=GROUP,
            topics=["touchpoints"],
            handler=TouchpointBatchHandler(self.lanes, self.outbox, self.catalogue, ContactCache()),
            workers=len(self.lanes),
            session_timeout_ms=self.settings.session_timeout_ms,
            on_progress=self.write_frontier,
        )
        self.consumers[:] = [consumer]
        return consumer

    def jobs(self, stop: asyncio.Event) -> list[Coroutine[Any, Any, None]]:
        """Return the background jobs; each waits for its notifications and instants."""
        parts = (self.outbox, self.catalogue)
        partitions = self.settings.partitions
        fold_jobs = FoldJobs(self.session("jobs"), *parts, partitions)
        account_jobs = AccountJobs(self.session("accounts"), *parts, partitions)
        rollout = VersionRollout(self.session("versions"), *parts)
        deferred_links = DeferredLinkJob(self.session("regroups"), *parts)
        events = CompellingEventService(self.session("reminders"), self.outbox, SystemClock())
        collectors = (outbox_gauges("scoring"), collect_database_gauges, schedule.collect_gauges)
        gauges = GaugeCollector(self.session("watching"), collectors)
        subscribe = self.wakeups.subscribe
        return [
            *(
                run_when_due(stop, job, wake)
                for job, wake in zip(
                    (fold_jobs.fire_timers, account_jobs.fire_timers),
                    self.timers_due,
                    strict=True,
                )
            ),
            run_when_due(
                stop,
                fold_jobs.refold,
                subscribe(fold_states.REFOLDS_CHANNEL),
                fold_jobs.seconds_until_refold,
            ),
            run_when_due(
                stop,
                account_jobs.refold,
                subscribe(accounts.REFOLDS_CHANNEL),
                account_jobs.seconds_until_refold,
            ),
            run_when_due(stop, deferred_links.run, subscribe(identity_links.DEFERRED_CHANNEL)),
            run_when_due(
                stop,
                events.announce_due,
                subscribe(compelling_events_rows.EVENTS_CHANNEL),
                events.seconds_until_due,
            ),
            *(
                run_when_due(
                    stop,
                    job,
                    subscribe(cycle_versions.VERSIONS_CHANNEL),
                    rollout.seconds_until_work,
                    pace=1 / ROUNDS_PER_SECOND,
                )
                for job in (
                    rollout.fill_shadow,
                    rollout.activate_shadow,
                    rollout.publish_net_changes,
                    rollout.delete_retired_folds,
                )
            ),
            run_periodically(stop, INTERVAL_SECONDS, gauges.collect),
            run_periodically(stop, 3600, self.tidy_tables),
        ]

    def web(self) -> uvicorn.Server:
        """Return the HTTP server of the health checks, the public API and the admin API."""
        health_session, read_session, log_session, admin_session = (
            self.session(name) for name in ("health", "read", "log", "admin")
        )
        checks: dict[str, Check] = {"database": health_session.check, "kafka": self.publisher.check}
        parts = (self.outbox, self.catalogue)
        modules = {part.name: part.mode() for part in (FOLD_MODULES, PUBLISHER_MODULES)}
        health = HealthChecks(checks, lambda: check_progress(self.consumers), modules)
        admin_app = build_app(
            "Perigee scoring",
            open_routes=[*health.routes(), asyncapi_route()],
            public_routers=[
                contacts.router(
                    ContactService(read_session, self.catalogue),
                    ContactTimelineService(read_session, self.catalogue),
                ),
                statistics.router(ContactStatisticsService(self.session("statistics"))),
                stage_changes.router(
                    PublishedMessageService(log_session, self.settings.partitions)
                ),
                compelling_events.router(
                    CompellingEventService(self.session("events"), self.outbox, SystemClock())
                ),
            ],
            admin_routers=[
                identities.router(
                    IdentityService(admin_session, *parts),
                    CorrectionService(admin_session, *parts),
                    RefoldQueue(read_session),
                ),
                cycles.router(CycleVersionService(admin_session)),
                replay.router(ReplayService(self.replay_settings())),
                self.operations(),
            ],
        )
        keys = DatabaseKeyStore(
            self.session("keys"), self.settings.admin_key, self.settings.service_key
        )
        guarded_app = AuthenticationMiddleware(admin_app, ("/admin/", "/v1/"), keys)
        return build_server(guarded_app, self.settings.host, self.settings.port)

    def operations(self) -> APIRouter:
        """Return the routes of the status and of the outbox quarantine."""
        settings, session = self.settings, self.session("operations")
        work = ScoringStatusService(session, settings.kafka_bootstrap_servers, settings.partitions)
        return operations_router("scoring", work, OutboxQuarantineService(session, "scoring"))

    def replay_settings(self) -> ReplaySettings:
        """Return where a replay reads, and how it folds."""
        s = self.settings
        return ReplaySettings(
            s.database_url, s.kafka_bootstrap_servers, s.partitions, s.reaction_window
        )

    async def write_frontier(self, reached: Frontiers) -> None:
        """Store the frontier that each partition has reached, and wake the jobs of due timers."""
        async with self.upkeep.acquire() as connection:
            is_timer_due = await schedule.upsert_frontier(connection, reached)
        if is_timer_due:
            for event in self.timers_due:
                event.set()

    async def tidy_tables(self) -> bool:
        """Delete hashes older than the deduplication window; create the next months' partitions."""
        now = SystemClock().now()
        async with self.upkeep.acquire() as connection:
            await touchpoints.delete_seen_hashes(connection, now)
            await touchpoint_partitions.create_partitions(connection, now)
        return False

    async def fold(self, stop: asyncio.Event) -> None:
        """Install the cycles, then run the consumer and the periodic jobs until `stop` is set."""
        await retry_until_available(lambda: install_cycles(self.upkeep, self.files), stop)
        # Before the first touchpoint: a month with rows in the default partition gets none.
        await retry_until_available(self.tidy_tables, stop)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(supervise_consumer(self.consumer, stop))
            for job in self.jobs(stop):
                tasks.create_task(job)
            tasks.create_task(self.wakeups.run(stop))

    async def close(self) -> None:
        """Close the publisher and every session."""
        await self.publisher.close()
        for session in self.sessions:
            await session.close()


async def serve(stop: asyncio.Event) -> None:
    """Run until `stop` is set."""
    settings: ScoringSettings = load_settings(ScoringSettings)
    tracing.configure_tracing("scoring", settings.otlp_endpoint)
    failpoints.arm(settings.failpoint)
    FOLD_MODULES.mode()  # Refuses a stale compiled fold before it runs.
    process = ScoringProcess(settings)
    relay = OutboxRelay(
        settings.database_url, "scoring", settings.partitions, process.publisher, LOGGED_TOPICS
    )
    await run_jobs_and_server(stop, process.web(), relay.run(stop), process.fold(stop))
    await process.close()


def main() -> None:
    """Run the scoring process."""
    logs.configure_logging("scoring")
    run_service(serve)


if __name__ == "__main__":
    main()
