"""Wires the orchestrator together and runs it: what starts plays, what sends, what tells subscribers, and its doors."""

import asyncio
import random

import httpx2
import uvicorn

from libs.common import failpoints
from libs.common.clock import SystemClock
from libs.common.db.api_keys import DatabaseKeyStore
from libs.common.db.connection import Session, SessionPool
from libs.common.db.gauges import INTERVAL_SECONDS, GaugeCollector, outbox_gauges
from libs.common.db.outbox import Outbox
from libs.common.db.outbox_relay import OutboxRelay
from libs.common.http.authentication import AuthenticationMiddleware
from libs.common.kafka.consumer import Consumer
from libs.common.kafka.publisher import Publisher
from libs.common.kafka.supervisor import check_progress, supervise_consumer
from libs.common.observability import logs, tracing
from libs.common.observability.health import HealthChecks, build_server
from libs.common.service_runner import retry_until_available, run_jobs_and_server, run_periodically, run_service
from libs.common.settings import load_settings
from services.orchestrator.api import (
    actions,
    catalogue,
    doors,
    falls,
    plays,
    referrals,
    segments,
    subscriptions,
    suppressions,
)
from services.orchestrator.api.onsite import onsite_route
from services.orchestrator.api.unsubscribe import unsubscribe_route
from services.orchestrator.channels import Channel
from services.orchestrator.channels.crm import CrmTaskChannel
from services.orchestrator.channels.email import EmailChannel
from services.orchestrator.channels.posting import SlackChannel, TopicChannel, WebhookChannel
from services.orchestrator.channels.webhook import Post
from services.orchestrator.domain.gate import Rules
from services.orchestrator.domain.links import Links
from services.orchestrator.handlers.catalogue import Catalogue
from services.orchestrator.handlers.delivering import Delivering
from services.orchestrator.handlers.dispatch import Dispatcher
from services.orchestrator.handlers.echo import Echo
from services.orchestrator.handlers.events import GROUP, TOPICS, EventHandler
from services.orchestrator.handlers.falls import Falls
from services.orchestrator.handlers.judging import Judging
from services.orchestrator.handlers.lanes import Lanes
from services.orchestrator.handlers.ledger import LedgerDesk
from services.orchestrator.handlers.means import Means
from services.orchestrator.handlers.onsite import Onsite
from services.orchestrator.handlers.playbook import Playbook
from services.orchestrator.handlers.plays import PlaysDesk
from services.orchestrator.handlers.preview import Preview
from services.orchestrator.handlers.referrals import ReferralsDesk
from services.orchestrator.handlers.runs import Runner
from services.orchestrator.handlers.segments import SegmentsDesk
from services.orchestrator.handlers.subscriptions import SubscriptionsDesk
from services.orchestrator.handlers.suppressions import Suppressions
from services.orchestrator.handlers.sweeps import Sweeps
from services.orchestrator.handlers.webhooks import Webhooks
from services.orchestrator.handlers.why import Why
from services.orchestrator.plays import max_age_of, read_contents, read_plays, read_segments
from services.orchestrator.repository import actions as repository
from services.orchestrator.repository import subscriptions as subscribed
from services.orchestrator.repository.plays import Kind
from services.orchestrator.settings import OrchestratorSettings

CARRIERS = 4
SENDERS = 4
"""Connections that the webhooks' turns share; none is held while a receiver is waited for."""
LOOKERS = 4
"""Connections for pages that ask what to show."""


class Process:
    """The parts of one orchestrator process, wired together. Each user of the database has a connection of its own."""

    def __init__(self, settings: OrchestratorSettings) -> None:
        self.settings = settings
        self.sessions: list[Session] = []
        self.clock = SystemClock()
        self.playbook = Playbook(max_age_of(settings.max_age))
        self.outbox = Outbox("orchestrator", settings.partitions)
        self.means = Means(self.outbox, self.playbook, self.clock, asyncio.Event())
        self.publisher = Publisher(settings.kafka_bootstrap_servers)
        self.relay = OutboxRelay(settings.database_url, "orchestrator", settings.partitions, self.publisher)
        self.post = Post(self.clock, private=settings.private_webhooks)
        self.channels: dict[str, Channel] = {
            "email": EmailChannel(settings.smtp_url, settings.sender),
            "webhook": WebhookChannel(self.post, self.clock),
            "slack": SlackChannel(self.post),
            "crm_task": CrmTaskChannel(self.post, self.clock),
            "audience": WebhookChannel(self.post, self.clock, "perigee.audience.v1"),
            "kafka": TopicChannel(),
        }
        self.links = Links(
            settings.public_url, settings.unsubscribe_secret, settings.site, settings.link_signing_keys()
        )
        self.desk = PlaysDesk(self.session("plays"), self.playbook, self.clock, settings.baseline)
        self.client = httpx2.AsyncClient(trust_env=False)
        self.events = self.session("events")
        self.consumers: list[Consumer] = []

    def session(self, name: str) -> Session:
        """Return a connection of its own for one user."""
        self.sessions.append(Session(self.settings.database_url, f"orchestrator-{name}"))
        return self.sessions[-1]

    def consumer(self) -> Consumer:
        """Return a consumer of signals and stage changes; the last one made is the one at work."""
        made = Consumer(
            bootstrap_servers=self.settings.kafka_bootstrap_servers,
            group=GROUP,
            topics=list(TOPICS),
            handler=EventHandler(self.events, self.means),
            session_timeout_ms=self.settings.session_timeout_ms,
        )
        self.consumers[:] = [made]
        return made

    def runner(self) -> Runner:
        """Return what takes enrollments on."""
        return Runner(self.session("runs"), self.means)

    def sweeps(self) -> Sweeps:
        """Return what lets plays reach everybody whom an event concerns."""
        return Sweeps(self.session("sweeps"), self.means)

    def lanes(self) -> Lanes:
        """Return what sends actions."""
        s = self.settings
        rules = Rules(s.cap_per_day, s.cap_per_week, s.quiet_from, s.quiet_to)
        judging = Judging(self.outbox, self.playbook, self.channels, rules, self.clock, self.links)
        pool = SessionPool([self.session(f"sends-{number}") for number in range(1, SENDERS + 1)])
        dispatcher = Dispatcher(pool, self.outbox, judging, self.channels, self.clock, random.random)
        return Lanes(dispatcher, self.means.wake)

    def webhooks(self) -> Webhooks:
        """Return what tells subscribers."""
        pool = SessionPool([self.session(f"webhooks-{number}") for number in range(1, CARRIERS + 1)])
        carrying = Delivering(pool, self.post, self.clock, self.settings.partitions, random.random)
        return Webhooks(self.settings.database_url, pool, carrying, self.clock)

    def web(self) -> uvicorn.Server:
        """Return the server of health and of the doors."""
        health_session, door = self.session("health"), self.session("door")
        health = HealthChecks(
            {"database": health_session.check, "kafka": self.publisher.check}, lambda: check_progress(self.consumers)
        )

        desk = SubscriptionsDesk(self.session("desk"), self.post.fault, self.clock, self.settings.partitions)
        stops = Suppressions(door, self.playbook)
        recommended = ReferralsDesk(self.session("referrals"), self.links, self.clock)
        unsubscribe = unsubscribe_route(self.settings.unsubscribe_secret, stops.suppress)
        preview = Preview(self.session("preview"), self.playbook, self.channels, self.links, self.clock)
        ledger = LedgerDesk(self.session("ledger"), self.outbox, self.clock)
        contents = Catalogue(self.session("catalogue"), self.playbook, self.clock)
        routers = [
            catalogue.admin(contents),
            falls.router(Falls(self.session("falls"), self.playbook)),
            subscriptions.router(desk),
            actions.router(ledger),
            suppressions.router(stops),
            referrals.router(recommended),
            segments.router(SegmentsDesk(self.session("segments"), self.playbook, self.clock)),
            *plays.routers(self.desk, preview, Why(self.session("why"), self.playbook)),
        ]
        onsite_pool = SessionPool([self.session(f"onsite-{number}") for number in range(1, LOOKERS + 1)])
        onsite = Onsite(onsite_pool, self.playbook, self.settings.link_signing_keys(), self.clock)
        open_routes = [*health.routes(), unsubscribe, referrals.referral_route(recommended), onsite_route(onsite)]
        admin_app = doors.application(open_routes, [catalogue.reading(contents)], routers)
        guarded_app = AuthenticationMiddleware(
            admin_app,
            ("/admin/", "/v1/next"),
            DatabaseKeyStore(self.session("keys"), self.settings.admin_key, self.settings.service_key),
        )
        return build_server(guarded_app, self.settings.host, self.settings.port)

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
    process = Process(settings)
    webhooks = process.webhooks()
    sweeps = process.sweeps()
    echo = Echo(process.session("echoes"), process.client, settings.ingest_url, settings.write_key)
    shipped = read_plays(settings.plays)
    named: dict[Kind, dict[str, str]] = {
        "content": read_contents(settings.contents),
        "segment": read_segments(settings.segments),
    }
    await retry_until_available(lambda: process.desk.install(shipped, named), stop)
    looks = (outbox_gauges("orchestrator"), repository.watch, subscribed.watch)
    watching = GaugeCollector(process.session("watching"), looks)
    await run_jobs_and_server(
        stop,
        process.web(),
        supervise_consumer(process.consumer, stop),
        process.relay.run(stop),
        run_periodically(stop, 0.3, process.runner().run_due),
        process.lanes().run(stop),
        run_periodically(stop, 1, sweeps.run),
        run_periodically(stop, 5, sweeps.tick),
        run_periodically(stop, 0.3, echo.send_waiting),
        webhooks.run(stop),
        run_periodically(stop, 3600, webhooks.forget),
        run_periodically(stop, INTERVAL_SECONDS, watching.collect),
    )
    await process.close()


def main() -> None:
    """Entry of the process."""
    logs.configure_logging("orchestrator")
    run_service(serve)


if __name__ == "__main__":
    main()
