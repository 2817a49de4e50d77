"""Fixtures of the integration tests."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from libs.common.kafka.admin import apply_topics
from libs.common.kafka.publisher import Publisher
from tests.integration.ingest_parts import IngestParts
from tests.support.instance import PARTITIONS, Instance
from tests.support.scoring import Scoring
from tests.support.servers import Servers


@pytest.fixture
def instance(tmp_path: Path, perigee_topics: Servers, database: str) -> Iterator[Instance]:
    """Running instance on empty topics."""
    running = Instance(tmp_path / "home", perigee_topics, database)
    asyncio.run(apply_topics(perigee_topics.kafka, PARTITIONS))
    running.up()
    yield running
    running.down()


@pytest.fixture
async def ingest_parts(perigee_topics: Servers, database: str) -> AsyncIterator[IngestParts]:
    """Parts of ingest on empty topics."""
    await apply_topics(perigee_topics.kafka, PARTITIONS)
    parts = IngestParts(perigee_topics, database)
    yield parts
    await parts.close()


@pytest.fixture
async def publisher(servers: Servers) -> AsyncIterator[Publisher]:
    """Publisher to the real broker."""
    publisher_to_broker = Publisher(servers.kafka)
    yield publisher_to_broker
    await publisher_to_broker.close()


@pytest.fixture
async def scoring(database: str) -> AsyncIterator[Scoring]:
    """Scoring on an empty database, with the shipped cycle."""
    scoring_service = Scoring(database)
    yield scoring_service
    await scoring_service.close()
