"""Composition root of the orchestrator: consumer, background jobs, dispatch lanes, HTTP APIs."""

import asyncio
import random

import httpx2
import uvicorn
from fastapi import APIRouter

from libs.common import failpoints
from libs.common.clock import SystemClock
from libs.common.compilation import PUBLISHER_MODULES
from libs.common.db.api_keys import DatabaseKeyStore
from libs.common.db.connection import Session, SessionPool
from libs.common.db.gauges import INTERVAL_SECONDS, GaugeCollector, outbox_gauges
from libs.common.db.notifications import Wakeups
from libs.common.db.outbox import Outbox
from libs.common.db.outbox_quarantine import OutboxQuarantineService
from libs.common.db.outbox_relay import OutboxRelay
from libs.common.http.app_factory import build_app
from libs.common.http.authentication import AuthenticationMiddleware
from libs.common.http.operations import operations_router
from libs.common.kafka.consumer import Consumer
from libs.common.kafka.publisher import Publisher
from libs.common.kafka.supervisor import check_progress, supervise_consumer
from libs.common.observability import logs, tracing
from libs.common.observability.health import HealthChecks, build_server
from libs.common.service_runner import (
    retry_until_available,
    run_jobs_and_server,
    run_periodically,
    run_service,
    run_when_due,
)
from libs.common.settings import load_settings
from services.orchestrator.api import (
    actions,
    dropoff_audiences,
    plays,
    recommendations,
    referrals,
    schemas,
    segments,
    simulations,
    statistics,
    suppressions,
)
from services.orchestrator.api.onsite import onsite_route
from services.orchestrator.api.unsubscribe import unsubscribe_route
from services.orchestrator.channels.registry import build_channels
from services.orchestrator.definition_files import parse_max_age, read_shipped
from services.orchestrator.handlers.action_decision import ActionDecider
from services.orchestrator.handlers.action_ledger import ActionLedgerService
from services.orchestrator.handlers.contact_sweeps import ContactSweeper
from services.orchestrator.handlers.decision_context import DecisionContext
from services.orchestrator.handlers.decision_history import DecisionHistoryService
from services.orchestrator.handlers.definitions import DefinitionService
from services.orchestrator.handlers.dispatch_lanes import DispatchLanes
from services.orchestrator.handlers.dispatcher import Dispatcher
from services.orchestrator.handlers.dropoff_audiences import DropoffAudienceService
from services.orchestrator.handlers.enrollment_runner import EnrollmentRunner
from services.orchestrator.handlers.event_consumer import GROUP, TOPICS, EventHandler
from services.orchestrator.handlers.onsite import OnsiteService
from services.orchestrator.handlers.play_registry import PlayRegistry
from services.orchestrator.handlers.play_reports import PlayReportService
from services.orchestrator.handlers.play_simulations import PlaySimulationService
from services.orchestrator.handlers.plays import PlayService
from services.orchestrator.handlers.preview import PreviewService
from services.orchestrator.handlers.recommendations import RecommendationService
from services.orchestrator.handlers.referrals import ReferralService
from services.orchestrator.handlers.segments import SegmentService
from services.orchestrator.handlers.statistics import PlayStatisticsService
from services.orchestrator.handlers.suppressions import SuppressionService
from services.orchestrator.handlers.touchpoint_echo import TouchpointEcho
from services.orchestrator.handlers.work_status import OrchestratorStatusService
from services.orchestrator.repository import actions as action_repository
from services.orchestrator.repository.changes import CHANGES_CHANNEL
from services.orchestrator.repository.echoes import ECHOES_CHANNEL
from services.orchestrator.repository.enrollments import ENROLLMENTS_CHANNEL
from services.orchestrator.repository.sweeps import SWEEPS_CHANNEL
from services.orchestrator.settings import OrchestratorSettings
from services.orchestrator.subscriptions import api
from services.orchestrator.subscriptions.delivery import SubscriptionDelivery
from services.orchestrator.subscriptions.delivery_tasks import SubscriptionTasks
from services.orchestrator.subscriptions.repository import subscriptions
from services.orchestrator.subscriptions.service import SubscriptionService
from services.orchestrator.webhooks.http_client import WebhookClient

DELIVERY_CONNECTIONS = 4
DISPATCH_CONNECTIONS = 4
"""Connections that all lanes share; none is used while a receiver is waited for."""
ONSITE_CONNECTIONS = 4
"""Connections for requests of pages for content."""


class OrchestratorProcess:
    """The parts of one orchestrator process. Each user of the database has its own connection."""

    def __init__(self, settings: OrchestratorSettings) -> None:
        self.settings = settings
        self.sessions: list[Session] = []
        self.clock = SystemClock()
        self.registry = PlayRegistry(parse_max_age(settings.max_age))
        self.outbox = Outbox("orchestrator", settings.partitions)
        self.context = DecisionContext(self.outbox, self.registry, self.clock)
        self.wakeups = Wakeups(settings.database_url, "orchestrator-wakeups")
        self.publisher = Publisher(settings.kafka_bootstrap_servers)
        self.relay = OutboxRelay(
            settings.database_url, "orchestrator", settings.partitions, self.publisher
        )
        self.rules = settings.gate_rules()
        self.post = WebhookClient(self.clock, private=settings.private_webhooks)
        self.channels = build_channels(settings.smtp_url, settings.sender, self.post, self.clock)
        self.links = settings.message_links()
        self.play_session = self.session("plays")
        self.plays = PlayService(self.play_session, self.registry)
        self.client = httpx2.AsyncClient(trust_env=False)
        self.events = self.session("events")
        self.consumers: list[Consumer] = []

    def session(self, name: str) -> Session:
        """Return a dedicated connection for one user."""
        self.sessions.append(Session(self.settings.database_url, f"orchestrator-{name}"))
        return self.sessions[-1]

    def session_pool(self, name: str, count: int) -> SessionPool:
        """Return a pool of `count` connections for one user."""
        return SessionPool([self.session(f"{name}-{number}") for number in range(1, count + 1)])

    def consumer(self) -> Consumer:
        """Return a new consumer of events, which replaces the previous one."""
        consumer = Consumer(
            bootstrap_servers=self.settings.kafka_bootstrap_servers,
            group=GROUP,
            topics=list(TOPICS),
            handler=EventHandler(self.events, self.context),
            session_timeout_ms=self.settings.session_timeout_ms,
        )
        self.consumers[:] = [consumer]
        return consumer

    def runner(self) -> EnrollmentRunner:
        """Return the enrollment runner."""
        return EnrollmentRunner(self.session("runs"), self.context)

    def sweeps(self) -> ContactSweeper:
        """Return the contact sweeper."""
        return ContactSweeper(self.session("sweeps"), self.context)

    def lanes(self) -> DispatchLanes:
        """Return the dispatch lanes."""
        decider = ActionDecider(
            self.outbox, self.registry, self.channels, self.rules, self.clock, self.links
        )
        pool = self.session_pool("sends", DISPATCH_CONNECTIONS)
        dispatcher = Dispatcher(
            pool, self.outbox, decider, self.channels, self.clock, random.random
        )
        return DispatchLanes(dispatcher, self.wakeups.subscribe(action_repository.ACTIONS_CHANNEL))

    def webhooks(self) -> SubscriptionTasks:
        """Return the delivery tasks of webhook subscriptions."""
        pool = self.session_pool("webhooks", DELIVERY_CONNECTIONS)
        delivery = SubscriptionDelivery(
            pool, self.post, self.clock, self.settings.partitions, random.random
        )
        return SubscriptionTasks(self.settings.database_url, pool, delivery, self.clock)

    def web(self) -> uvicorn.Server:
        """Return the server of health checks and APIs."""
        settings, health_session = self.settings, self.session("health")
        health = HealthChecks(
            {"database": health_session.check, "kafka": self.publisher.check},
            lambda: check_progress(self.consumers),
            {PUBLISHER_MODULES.name: PUBLISHER_MODULES.mode()},
        )
        subscription_service = SubscriptionService(
            self.session("desk"), self.post.check_url, self.clock, self.settings.partitions
        )
        suppression_service = SuppressionService(self.session("door"), self.registry)
        referral_service = ReferralService(self.session("referrals"), self.links, self.clock)
        recommendation_service = RecommendationService(
            self.session("catalogue"), self.registry, self.clock
        )
        routers = [
            recommendations.admin_router(recommendation_service),
            dropoff_audiences.router(DropoffAudienceService(self.session("falls"), self.registry)),
            api.router(subscription_service),
            actions.router(ActionLedgerService(self.session("ledger"), self.outbox, self.clock)),
            suppressions.router(suppression_service),
            referrals.router(referral_service),
            segments.router(SegmentService(self.session("segments"), self.registry, self.clock)),
            *self.operator_routers(),
            *self.play_routers(),
        ]
        onsite_pool = self.session_pool("onsite", ONSITE_CONNECTIONS)
        onsite = OnsiteService(
            onsite_pool, self.registry, self.settings.link_signing_keys(), self.clock
        )
        open_routes = [
            *health.routes(),
            unsubscribe_route(self.settings.unsubscribe_secret, suppression_service.suppress),
            referrals.referral_route(referral_service),
            onsite_route(onsite),
        ]
        admin_app = build_app(
            "Perigee orchestrator",
            open_routes=open_routes,
            public_routers=[recommendations.reader_router(recommendation_service)],
            admin_routers=routers,
        )
        keys = DatabaseKeyStore(self.session("keys"), settings.admin_key, settings.service_key)
        guarded_app = AuthenticationMiddleware(admin_app, ("/admin/", "/v1/next"), keys)
        return build_server(guarded_app, settings.host, settings.port)

    def play_routers(self) -> list[APIRouter]:
        """Return the routes of plays, definitions, switches, reports and decision histories."""
        preview = PreviewService(
            self.session("preview"), self.registry, self.channels, self.links, self.clock
        )
        return plays.routers(
            self.plays,
            DefinitionService(self.play_session, self.registry),
            preview,
            PlayReportService(self.play_session, self.clock, self.settings.baseline),
            DecisionHistoryService(self.session("why"), self.registry),
        )

    def operator_routers(self) -> list[APIRouter]:
        """Return the routes of status, outbox quarantine, figures, simulations and schemas."""
        session, s = self.session("operations"), self.settings
        work = OrchestratorStatusService(session, s.kafka_bootstrap_servers)
        quarantine = OutboxQuarantineService(session, "orchestrator")
        return [
            operations_router("orchestrator", work, quarantine),
            statistics.router(PlayStatisticsService(self.session("statistics"))),
            simulations.router(PlaySimulationService(s.database_url, self.rules)),
            schemas.router(),
        ]

    async def close(self) -> None:
        """Close every connection."""
        await self.client.aclose()
        await self.post.close()
        for channel in self.channels.values():
            await channel.close()
        await self.publisher.close()
        for session in self.sessions:
            await session.close()


async def serve(stop: asyncio.Event) -> None:
    """Run until `stop` is set."""
    settings: OrchestratorSettings = load_settings(OrchestratorSettings)
    tracing.configure_tracing("orchestrator", settings.otlp_endpoint)
    failpoints.arm(settings.failpoint)
    process = OrchestratorProcess(settings)
    webhooks = process.webhooks()
    runner, sweeps, lanes = process.runner(), process.sweeps(), process.lanes()
    sweep_channels = [SWEEPS_CHANNEL, CHANGES_CHANNEL]
    echo = TouchpointEcho(
        process.session("echoes"), process.client, settings.ingest_url, settings.write_key
    )
    shipped = read_shipped(settings.plays, settings.contents, settings.segments)
    await retry_until_available(lambda: process.plays.install(*shipped), stop)
    collectors = [action_repository.collect_gauges, subscriptions.collect_gauges]
    gauges = GaugeCollector(
        process.session("watching"), [outbox_gauges("orchestrator"), *collectors]
    )
    await run_jobs_and_server(
        stop,
        process.web(),
        supervise_consumer(process.consumer, stop),
        process.relay.run(stop),
        lanes.run(stop),
        *(
            run_when_due(stop, job, process.wakeups.subscribe(*channels), next_due, pace=pace)
            for job, channels, next_due, pace in (
                (runner.advance_due, [ENROLLMENTS_CHANNEL], runner.seconds_until_due, 0.3),
                (sweeps.advance_sweep, sweep_channels, sweeps.seconds_until_sweep, 1),
                (sweeps.start_due_sweeps, sweep_channels, sweeps.seconds_until_tick, 1),
            )
        ),
        run_when_due(stop, echo.send_waiting, process.wakeups.subscribe(ECHOES_CHANNEL), pace=0.3),
        process.wakeups.run(stop),
        webhooks.run(stop),
        run_periodically(stop, 3600, webhooks.delete_old_attempts),
        run_periodically(stop, INTERVAL_SECONDS, gauges.collect),
    )
    await process.close()


def main() -> None:
    """Run the orchestrator process."""
    logs.configure_logging("orchestrator")
    run_service(serve)


if __name__ == "__main__":
    main()
