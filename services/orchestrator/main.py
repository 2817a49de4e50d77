"""Composition root of the orchestrator: consumer, background jobs, dispatch lanes, HTTP APIs."""

import asyncio
import random

from libs.common import failpoints
from libs.common.db.gauges import INTERVAL_SECONDS, GaugeCollector, outbox_gauges
from libs.common.db.notifications import Wakeups
from libs.common.db.outbox_relay import OutboxRelay
from libs.common.kafka.consumer import Consumer
from libs.common.kafka.supervisor import check_progress, supervise_consumer
from libs.common.observability import logs, tracing
from libs.common.service_runner import (
    retry_until_available,
    run_jobs_and_server,
    run_periodically,
    run_service,
    run_when_due,
)
from libs.common.settings import load_settings
from services.orchestrator.api.server import build_api_server
from services.orchestrator.definition_file_reader import read_shipped
from services.orchestrator.handlers.action_decision import ActionDecider
from services.orchestrator.handlers.contact_sweeps import ContactSweeper
from services.orchestrator.handlers.decision_context import DecisionContext
from services.orchestrator.handlers.dispatch_lanes import DispatchLanes
from services.orchestrator.handlers.dispatcher import Dispatcher
from services.orchestrator.handlers.enrollment_runner import EnrollmentRunner
from services.orchestrator.handlers.event_consumer import GROUP, TOPICS, EventHandler
from services.orchestrator.handlers.plays import PlayService
from services.orchestrator.handlers.touchpoint_echo import TouchpointEcho
from services.orchestrator.process_parts import ProcessParts
from services.orchestrator.repository import actions
from services.orchestrator.repository.changes import CHANGES_CHANNEL
from services.orchestrator.repository.echoes import ECHOES_CHANNEL
from services.orchestrator.repository.enrollments import ENROLLMENTS_CHANNEL
from services.orchestrator.repository.sweeps import SWEEPS_CHANNEL
from services.orchestrator.settings import OrchestratorSettings
from services.orchestrator.subscriptions.delivery import SubscriptionDelivery
from services.orchestrator.subscriptions.delivery_tasks import SubscriptionTasks
from services.orchestrator.subscriptions.repository import subscriptions

DELIVERY_CONNECTIONS = 4
DISPATCH_CONNECTIONS = 4
"""Connections that all lanes share; none is used while a receiver is waited for."""


class OrchestratorProcess:
    """The jobs of one orchestrator process."""

    def __init__(self, settings: OrchestratorSettings) -> None:
        self.settings = settings
        self.parts = ProcessParts(settings)
        self.context = DecisionContext(self.parts.outbox, self.parts.registry, self.parts.clock)
        self.wakeups = Wakeups(settings.database_url, "orchestrator-wakeups")
        self.relay = OutboxRelay(
            settings.database_url, "orchestrator", settings.partitions, self.parts.publisher
        )
        self.consumers: list[Consumer] = []
        self._event_session = self.parts.session("events")

    def consumer(self) -> Consumer:
        """Return a new consumer of events, which replaces the previous one."""
        consumer = Consumer(
            bootstrap_servers=self.settings.kafka_bootstrap_servers,
            group=GROUP,
            topics=list(TOPICS),
            handler=EventHandler(self._event_session, self.context),
            session_timeout_ms=self.settings.session_timeout_ms,
        )
        self.consumers[:] = [consumer]
        return consumer

    def runner(self) -> EnrollmentRunner:
        """Return the enrollment runner."""
        return EnrollmentRunner(self.parts.session("enrollments"), self.context)

    def sweeper(self) -> ContactSweeper:
        """Return the contact sweeper."""
        return ContactSweeper(self.parts.session("sweeps"), self.context)

    def lanes(self) -> DispatchLanes:
        """Return the dispatch lanes."""
        parts = self.parts
        decider = ActionDecider(
            parts.outbox, parts.registry, parts.channels, parts.rules, parts.clock, parts.links
        )
        pool = parts.session_pool("dispatch", DISPATCH_CONNECTIONS)
        dispatcher = Dispatcher(
            pool, parts.outbox, decider, parts.channels, parts.clock, random.random
        )
        return DispatchLanes(dispatcher, self.wakeups.subscribe(actions.ACTIONS_CHANNEL))

    def webhooks(self) -> SubscriptionTasks:
        """Return the delivery tasks of webhook subscriptions."""
        parts, settings = self.parts, self.settings
        pool = parts.session_pool("webhooks", DELIVERY_CONNECTIONS)
        delivery = SubscriptionDelivery(
            pool, parts.webhook_client, parts.clock, settings.partitions, random.random
        )
        return SubscriptionTasks(settings.database_url, pool, delivery, parts.clock)

    def touchpoint_echo(self) -> TouchpointEcho:
        """Return the touchpoint echo."""
        return TouchpointEcho(
            self.parts.session("echoes"),
            self.parts.http_client,
            self.settings.ingest_url,
            self.settings.write_key,
        )

    def gauges(self) -> GaugeCollector:
        """Return the gauge collector."""
        return GaugeCollector(
            self.parts.session("gauges"),
            (
                outbox_gauges("orchestrator"),
                actions.collect_gauges,
                subscriptions.collect_gauges,
            ),
        )

    async def install_shipped(self, stop: asyncio.Event) -> None:
        """Insert the shipped plays and definitions once the database is available."""
        settings = self.settings
        service = PlayService(self._event_session, self.parts.registry)
        shipped = read_shipped(settings.plays, settings.contents, settings.segments)
        await retry_until_available(lambda: service.install(*shipped), stop)


async def serve(stop: asyncio.Event) -> None:
    """Run until `stop` is set."""
    settings: OrchestratorSettings = load_settings(OrchestratorSettings)
    tracing.configure_tracing("orchestrator", settings.otlp_endpoint)
    failpoints.arm(settings.failpoint)
    process = OrchestratorProcess(settings)
    webhooks, lanes = process.webhooks(), process.lanes()
    runner, sweeper, echo = process.runner(), process.sweeper(), process.touchpoint_echo()
    subscribe, sweep_channels = process.wakeups.subscribe, (SWEEPS_CHANNEL, CHANGES_CHANNEL)
    await process.install_shipped(stop)
    await run_jobs_and_server(
        stop,
        build_api_server(process.parts, lambda: check_progress(process.consumers)),
        supervise_consumer(process.consumer, stop),
        process.relay.run(stop),
        lanes.run(stop),
        *(
            run_when_due(stop, job, subscribe(*channels), next_due, pace=pace)
            for job, channels, next_due, pace in (
                (runner.advance_due, (ENROLLMENTS_CHANNEL,), runner.seconds_until_due, 0.3),
                (sweeper.advance_sweep, sweep_channels, sweeper.seconds_until_sweep, 1),
                (sweeper.start_due_sweeps, sweep_channels, sweeper.seconds_until_tick, 1),
            )
        ),
        run_when_due(stop, echo.send_waiting, subscribe(ECHOES_CHANNEL), pace=0.3),
        process.wakeups.run(stop),
        webhooks.run(stop),
        run_periodically(stop, 3600, webhooks.delete_old_attempts),
        run_periodically(stop, INTERVAL_SECONDS, process.gauges().collect),
    )
    await process.parts.close()


def main() -> None:
    """Run the orchestrator process."""
    logs.configure_logging("orchestrator")
    run_service(serve)


if __name__ == "__main__":
    main()
