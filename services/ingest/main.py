"""Composition root of ingest, and entry of its process."""

import asyncio
from functools import partial

from libs.common.clock import SystemClock
from libs.common.compilation import PUBLISHER_MODULES
from libs.common.db.api_keys import DatabaseKeyStore
from libs.common.db.connection import Session
from libs.common.db.notifications import Wakeups
from libs.common.http.app_factory import build_app
from libs.common.http.authentication import AuthenticationMiddleware
from libs.common.kafka.publisher import Publisher
from libs.common.observability import logs, tracing
from libs.common.observability.health import HealthChecks, build_server
from libs.common.service_runner import run_jobs_and_server, run_periodically, run_service
from libs.common.settings import load_settings
from services.ingest.api import access, dead_letters, imports, sources
from services.ingest.api.tracking import TrackingApi
from services.ingest.handlers.access import AccessService
from services.ingest.handlers.dead_letters import DeadLetterService
from services.ingest.handlers.imports import FileImporter
from services.ingest.handlers.ingestion import IngestService
from services.ingest.handlers.sources import SourceService
from services.ingest.handlers.uploads import UploadQueue
from services.ingest.protocol.server import IngestProtocol
from services.ingest.protocol.timeouts import UPLOADS
from services.ingest.repository.sources import SOURCES_CHANNEL, SourceCache
from services.ingest.settings import IngestSettings
from services.ingest.tracker.script import TrackerScripts


async def serve(stop: asyncio.Event) -> None:
    """Run ingest until `stop` is set."""
    settings: IngestSettings = load_settings(IngestSettings)
    tracing.configure_tracing("ingest", settings.otlp_endpoint)
    session = Session(settings.database_url, "ingest")
    source_cache = SourceCache(session)
    wakeups = Wakeups(settings.database_url, "ingest-wakeups")
    sources_changed = wakeups.subscribe(SOURCES_CHANNEL)
    publisher = Publisher(settings.kafka_bootstrap_servers, linger_ms=2)
    rules = settings.normalisation_rules()
    ingestion = IngestService(
        source_cache,
        publisher,
        SystemClock(),
        settings.publish_seconds,
        rules,
        wire_encoding=publisher.wire_encoding,
    )

    async def check_sources() -> str | None:
        return None if source_cache.is_loaded else "PostgreSQL has not answered since the start"

    modules = {PUBLISHER_MODULES.name: PUBLISHER_MODULES.mode()}
    health = HealthChecks({"sources": check_sources, "kafka": publisher.check}, modules=modules)
    # Admin requests and imports wait longer than tracking calls, so they get their own connection
    # and publisher, and never delay tracking calls.
    admin_session = Session(settings.database_url, "ingest-admin")
    admin_publisher = Publisher(settings.kafka_bootstrap_servers)
    keys_session = Session(settings.database_url, "ingest-keys")
    dead_letter_service = DeadLetterService(
        settings.kafka_bootstrap_servers, admin_session, admin_publisher, SystemClock(), rules
    )
    importer = FileImporter(admin_session, admin_publisher, SystemClock(), rules)
    upload_queue = UploadQueue(
        importer, admin_session, settings.import_folder, settings.import_bytes
    )
    routers = [
        sources.router(SourceService(admin_session)),
        sources.tracker_router(),
        dead_letters.router(dead_letter_service, settings.kafka_bootstrap_servers),
        imports.router(upload_queue),
        access.router(AccessService(admin_session)),
    ]
    application = build_app("Perigee ingest", open_routes=health.routes(), admin_routers=routers)
    rest = AuthenticationMiddleware(
        application,
        ("/admin/",),
        DatabaseKeyStore(keys_session, settings.admin_key, settings.service_key),
        UPLOADS,
    )
    api = TrackingApi(ingestion, TrackerScripts(), rest)
    web = build_server(api, settings.host, settings.port, partial(IngestProtocol, api))
    await run_jobs_and_server(
        stop,
        web,
        source_cache.refresh_periodically(stop, sources_changed, settings.sources_refresh_seconds),
        wakeups.run(stop),
        upload_queue.process_queue(stop),
        run_periodically(stop, 10, upload_queue.collect_disk_gauges),
    )
    for open_publisher in (publisher, admin_publisher):
        await open_publisher.close()
    for open_session in (session, admin_session, keys_session):
        await open_session.close()


def main() -> None:
    """Entry of the process."""
    logs.configure_logging("ingest")
    run_service(serve)


if __name__ == "__main__":
    main()
