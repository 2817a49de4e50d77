"""Wires the orchestrator together and runs it: what starts plays, what sends, what tells subscribers, and its doors."""

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
from services.orchestrator.channels import Channel
from services.orchestrator.channels.crm_task import CrmTaskChannel
from services.orchestrator.channels.email import EmailChannel
from services.orchestrator.channels.http_channels import SlackChannel, TopicChannel, WebhookChannel
from services.orchestrator.definition_files import (
    parse_max_age,
    read_contents,
    read_plays,
    read_segments,
)
from services.orchestrator.domain.gate import GateRules
from services.orchestrator.domain.message_links import MessageLinks
from services.orchestrator.handlers.action_decision import ActionDecider
from services.orchestrator.handlers.action_ledger import ActionLedgerService
from services.orchestrator.handlers.contact_sweeps import ContactSweeper
from services.orchestrator.handlers.decision_context import DecisionContext
from services.orchestrator.handlers.decision_history import DecisionHistoryService
from services.orchestrator.handlers.dispatch_lanes import DispatchLanes
from services.orchestrator.handlers.dispatcher import Dispatcher
from services.orchestrator.handlers.dropoff_audiences import DropoffAudienceService
from services.orchestrator.handlers.enrollment_runner import EnrollmentRunner
from services.orchestrator.handlers.event_consumer import GROUP, TOPICS, EventHandler
from services.orchestrator.handlers.onsite import OnsiteService
from services.orchestrator.handlers.play_registry import PlayRegistry
from services.orchestrator.handlers.play_simulations import PlaySimulationService
from services.orchestrator.handlers.plays import PlayService
from services.orchestrator.handlers.preview import PreviewService
from services.orchestrator.handlers.recommendations import RecommendationService
from services.orchestrator.handlers.referrals import ReferralService
from services.orchestrator.handlers.segment_membership import SegmentService
from services.orchestrator.handlers.statistics import PlayStatisticsService
from services.orchestrator.handlers.suppressions import SuppressionService
from services.orchestrator.handlers.touchpoint_echo import TouchpointEcho
from services.orchestrator.handlers.work_status import OrchestratorStatusService
from services.orchestrator.repository import actions as repository
from services.orchestrator.repository.enrollments import ENROLLMENTS_CHANNEL
from services.orchestrator.repository.plays import CHANGES_CHANNEL, DefinitionKind
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
"""Connections that the webhooks' turns share; none is held while a receiver is waited for."""
ONSITE_CONNECTIONS = 4
"""Connections for pages that ask what to show."""


class OrchestratorProcess:
    """The parts of one orchestrator process, wired together. Each user of the database has a connection of its own."""

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
        self.rules = GateRules(
            settings.cap_per_day, settings.cap_per_week, settings.quiet_from, settings.quiet_to
        )
        self.post = WebhookClient(self.clock, private=settings.private_webhooks)
        self.channels: dict[str, Channel] = {
            "email": EmailChannel(settings.smtp_url, settings.sender),
            "webhook": WebhookChannel(self.post, self.clock),
            "slack": SlackChannel(self.post),
            "crm_task": CrmTaskChannel(self.post, self.clock),
            "audience": WebhookChannel(self.post, self.clock, "perigee.audience.v1"),
            "kafka": TopicChannel(),
        }
        self.links = MessageLinks(
            settings.public_url,
            settings.unsubscribe_secret,
            settings.site,
            settings.link_signing_keys(),
        )
        self.desk = PlayService(self.session("plays"), self.registry, self.clock, settings.baseline)
        self.client = httpx2.AsyncClient(trust_env=False)
        self.events = self.session("events")
        self.consumers: list[Consumer] = []

    def session(self, name: str) -> Session:
        """Return a connection of its own for one user."""
        self.sessions.append(Session(self.settings.database_url, f"orchestrator-{name}"))
        return self.sessions[-1]

    def session_pool(self, name: str, count: int) -> SessionPool:
        """Return a pool of `count` connections for one user."""
        return SessionPool([self.session(f"{name}-{number}") for number in range(1, count + 1)])

    def consumer(self) -> Consumer:
        """Return a consumer of signals and stage changes; the last one made is the one at work."""
        made = Consumer(
            bootstrap_servers=self.settings.kafka_bootstrap_servers,
            group=GROUP,
            topics=list(TOPICS),
            handler=EventHandler(self.events, self.context),
            session_timeout_ms=self.settings.session_timeout_ms,
        )
        self.consumers[:] = [made]
        return made

    def runner(self) -> EnrollmentRunner:
        """Return what takes enrollments on."""
        return EnrollmentRunner(self.session("runs"), self.context)

    def sweeps(self) -> ContactSweeper:
        """Return what lets plays reach everybody whom an event concerns."""
        return ContactSweeper(self.session("sweeps"), self.context)

    def lanes(self) -> DispatchLanes:
        """Return what sends actions."""
        judging = ActionDecider(
            self.outbox, self.registry, self.channels, self.rules, self.clock, self.links
        )
        pool = self.session_pool("sends", DISPATCH_CONNECTIONS)
        dispatcher = Dispatcher(
            pool, self.outbox, judging, self.channels, self.clock, random.random
        )
        return DispatchLanes(dispatcher, self.wakeups.subscribe(repository.ACTIONS_CHANNEL))

    def webhooks(self) -> SubscriptionTasks:
        """Return what tells subscribers."""
        pool = self.session_pool("webhooks", DELIVERY_CONNECTIONS)
        carrying = SubscriptionDelivery(
            pool, self.post, self.clock, self.settings.partitions, random.random
        )
        return SubscriptionTasks(self.settings.database_url, pool, carrying, self.clock)

    def web(self) -> uvicorn.Server:
        """Return the server of health and of the doors."""
        settings, health_session = self.settings, self.session("health")
        health = HealthChecks(
            {"database": health_session.check, "kafka": self.publisher.check},
            lambda: check_progress(self.consumers),
            {PUBLISHER_MODULES.name: PUBLISHER_MODULES.mode()},
        )
        desk = SubscriptionService(
            self.session("desk"), self.post.check_url, self.clock, self.settings.partitions
        )
        stops = SuppressionService(self.session("door"), self.registry)
        recommended = ReferralService(self.session("referrals"), self.links, self.clock)
        preview = PreviewService(
            self.session("preview"), self.registry, self.channels, self.links, self.clock
        )
        contents = RecommendationService(self.session("catalogue"), self.registry, self.clock)
        routers = [
            recommendations.admin_router(contents),
            dropoff_audiences.router(DropoffAudienceService(self.session("falls"), self.registry)),
            api.router(desk),
            actions.router(ActionLedgerService(self.session("ledger"), self.outbox, self.clock)),
            suppressions.router(stops),
            referrals.router(recommended),
            segments.router(SegmentService(self.session("segments"), self.registry, self.clock)),
            *self.operator_routers(),
            *plays.routers(
                self.desk, preview, DecisionHistoryService(self.session("why"), self.registry)
            ),
        ]
        onsite_pool = self.session_pool("onsite", ONSITE_CONNECTIONS)
        onsite = OnsiteService(
            onsite_pool, self.registry, self.settings.link_signing_keys(), self.clock
        )
        open_routes = [
            *health.routes(),
            unsubscribe_route(self.settings.unsubscribe_secret, stops.suppress),
            referrals.referral_route(recommended),
            onsite_route(onsite),
        ]
        admin_app = build_app(
            "Perigee orchestrator",
            open_routes=open_routes,
            public_routers=[recommendations.reader_router(contents)],
            admin_routers=routers,
        )
        keys = DatabaseKeyStore(self.session("keys"), settings.admin_key, settings.service_key)
        guarded_app = AuthenticationMiddleware(admin_app, ("/admin/", "/v1/next"), keys)
        return build_server(guarded_app, settings.host, settings.port)

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
    subscribe = process.wakeups.subscribe
    echo = TouchpointEcho(
        process.session("echoes"), process.client, settings.ingest_url, settings.write_key
    )
    shipped = read_plays(settings.plays)
    named: dict[DefinitionKind, dict[str, str]] = {
        "content": read_contents(settings.contents),
        "segment": read_segments(settings.segments),
    }
    await retry_until_available(lambda: process.desk.install(shipped, named), stop)
    looks = (outbox_gauges("orchestrator"), repository.collect_gauges, subscriptions.collect_gauges)
    watching = GaugeCollector(process.session("watching"), looks)
    await run_jobs_and_server(
        stop,
        process.web(),
        supervise_consumer(process.consumer, stop),
        process.relay.run(stop),
        run_when_due(
            stop,
            runner.advance_due,
            subscribe(ENROLLMENTS_CHANNEL),
            runner.seconds_until_due,
            pace=0.3,
        ),
        lanes.run(stop),
        run_when_due(
            stop,
            sweeps.advance_sweep,
            subscribe(SWEEPS_CHANNEL, CHANGES_CHANNEL),
            sweeps.seconds_until_sweep,
            pace=1,
        ),
        run_when_due(
            stop,
            sweeps.start_due_sweeps,
            subscribe(SWEEPS_CHANNEL, CHANGES_CHANNEL),
            sweeps.seconds_until_tick,
            pace=1,
        ),
        run_when_due(stop, echo.send_waiting, subscribe(repository.ECHOES_CHANNEL), pace=0.3),
        process.wakeups.run(stop),
        webhooks.run(stop),
        run_periodically(stop, 3600, webhooks.delete_old_attempts),
        run_periodically(stop, INTERVAL_SECONDS, watching.collect),
    )
    await process.close()


def main() -> None:
    """Entry of the process."""
    logs.configure_logging("orchestrator")
    run_service(serve)


if __name__ == "__main__":
    main()
