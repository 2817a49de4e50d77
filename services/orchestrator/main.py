"""Wires the orchestrator together and runs it."""

import asyncio

import httpx2

from libs.common import failpoints
from libs.common.clock import SystemClock
from libs.common.db.connection import Session
from libs.common.db.outbox import Outbox
from libs.common.db.relay import Relay
from libs.common.kafka.consumer import Consumer
from libs.common.kafka.publisher import Publisher
from libs.common.kafka.running import keep_consuming, progress_fault
from libs.common.observability import logs
from libs.common.observability.health import Health, server
from libs.common.run import every, run_service, run_together
from libs.common.settings import load
from services.orchestrator import repository
from services.orchestrator.api import unsubscribe_route
from services.orchestrator.channels.email import EmailChannel
from services.orchestrator.domain.gate import Rules
from services.orchestrator.handlers.dispatch import Dispatcher
from services.orchestrator.handlers.echo import Echo
from services.orchestrator.handlers.events import GROUP, EventHandler
from services.orchestrator.plays import read_plays
from services.orchestrator.settings import OrchestratorSettings


async def serve(stop: asyncio.Event) -> None:
    """Run until `stop` is set."""
    settings: OrchestratorSettings = load(OrchestratorSettings)
    failpoints.arm(settings.failpoint)
    plays = read_plays(settings.plays, settings.max_age)
    clock = SystemClock()
    names = ("events", "sends", "echoes", "door")
    events, sends, echoes, door = (Session(settings.database_url, f"orchestrator-{name}") for name in names)
    outbox = Outbox("orchestrator", settings.partitions)
    publisher = Publisher(settings.kafka_bootstrap_servers)
    relay = Relay(settings.database_url, "orchestrator", settings.partitions, publisher)
    email = EmailChannel(settings.smtp_url, settings.sender)
    rules = Rules(settings.cap_per_day, settings.quiet_from, settings.quiet_to)
    links = (settings.public_url, settings.unsubscribe_secret)
    dispatcher = Dispatcher(sends, outbox, plays, {"email": email}, rules, clock, links)
    client = httpx2.AsyncClient(trust_env=False)
    echo = Echo(echoes, client, settings.ingest_url, settings.write_key)
    current: list[Consumer] = []

    def consumer() -> Consumer:
        made = Consumer(
            bootstrap_servers=settings.kafka_bootstrap_servers,
            group=GROUP,
            topics=["signals", "stage-changes"],
            handler=EventHandler(events, outbox, plays, clock),
            session_timeout_ms=settings.session_timeout_ms,
        )
        current[:] = [made]
        return made

    async def suppress(contact_id: str, channel: str) -> None:
        async with door.use() as connection:
            await repository.suppress(connection, contact_id, channel, "unsubscribed")

    health = Health({"database": door.check, "kafka": publisher.check}, lambda: progress_fault(current))
    app = health.app()
    app.router.routes.append(unsubscribe_route(settings.unsubscribe_secret, suppress))
    web = server(app, settings.host, settings.port)
    await run_together(
        stop,
        web,
        keep_consuming(consumer, stop),
        relay.run(stop),
        every(stop, 0.3, dispatcher.run_due),
        every(stop, 0.3, echo.send_waiting),
    )
    await client.aclose()
    await email.close()
    await publisher.close()
    for session in (events, sends, echoes, door):
        await session.close()


def main() -> None:
    """Entry of the process."""
    logs.configure("orchestrator")
    run_service(serve)


if __name__ == "__main__":
    main()
