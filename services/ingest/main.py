"""Wires ingest together and runs it."""

import asyncio

from libs.common.clock import SystemClock
from libs.common.db.connection import Session
from libs.common.kafka.publisher import Publisher
from libs.common.observability import logs
from libs.common.observability.health import Health, server
from libs.common.run import run_service, run_together
from libs.common.settings import load
from services.ingest.api.tracking import TrackingApi
from services.ingest.handlers import Door
from services.ingest.repository import Sources
from services.ingest.settings import IngestSettings


async def serve(stop: asyncio.Event) -> None:
    """Run until `stop` is set."""
    settings: IngestSettings = load(IngestSettings)
    session = Session(settings.database_url, "ingest")
    sources = Sources(session)
    publisher = Publisher(settings.kafka_bootstrap_servers, linger_ms=2)
    door = Door(sources, publisher, SystemClock(), settings.publish_seconds)

    async def sources_read() -> str | None:
        return None if sources.loaded else "PostgreSQL has not answered since the start"

    health = Health({"sources": sources_read, "kafka": publisher.check})
    web = server(TrackingApi(door, health.app()), settings.host, settings.port)
    await run_together(
        stop,
        web,
        sources.keep_fresh(stop, settings.sources_refresh_seconds),
    )
    await publisher.close()
    await session.close()


def main() -> None:
    """Entry of the process."""
    logs.configure("ingest")
    run_service(serve)


if __name__ == "__main__":
    main()
