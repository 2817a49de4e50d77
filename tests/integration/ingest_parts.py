"""Ingest wired on real servers, without HTTP."""

import msgspec

from cli.home import PROJECT
from libs.common.clock import FixedClock
from libs.common.db.connection import Session
from libs.common.kafka.publisher import Publisher
from libs.common.kafka.topic_reader import read_all
from libs.common.messages import Touchpoint
from services.ingest.domain.channel_rules import parse_channel_rules
from services.ingest.domain.request_context import NormalisationRules
from services.ingest.handlers.dead_letters import DeadLetterService
from services.ingest.handlers.ingestion import IngestService, TrackingRequest
from services.ingest.handlers.sources import SourceService
from services.ingest.repository.sources import SourceCache

NOW = 1_780_000_000_000_000

SHIPPED = parse_channel_rules(
    (PROJECT / "services" / "ingest" / "channels.yaml").read_text(), "channels.yaml"
)


class IngestParts:
    """Sources, ingestion and dead letters of ingest on real servers."""

    def __init__(self, servers, database):
        self.kafka = servers.kafka
        self.session = Session(database, "test")
        self.publisher = Publisher(servers.kafka)
        self.sources = SourceCache(self.session)
        self.source_service = SourceService(self.session)
        self.ingest_service = IngestService(
            self.sources, self.publisher, FixedClock(NOW), 10, NormalisationRules(SHIPPED)
        )
        self.dead_letters = DeadLetterService(
            servers.kafka,
            self.session,
            self.publisher,
            FixedClock(NOW + 9),
            NormalisationRules(SHIPPED),
        )

    async def send(self, key, messages, **batch):
        await self.sources.refresh()
        return await self.ingest_service.ingest_request(
            TrackingRequest(
                msgspec.json.encode({"batch": messages, **batch}),
                self.ingest_service.authenticate(key),
                None,
            )
        )

    async def touchpoints(self):
        records = await read_all(self.kafka, "touchpoints")
        return [msgspec.json.decode(r.value, type=Touchpoint) for r in records]

    async def list_dead_letters(self, **filters):
        return (
            await self.dead_letters.list_page(
                "ingest", lambda dead_letter: dead_letter.matches(**filters)
            )
        ).letters

    async def close(self):
        await self.publisher.close()
        await self.session.close()
