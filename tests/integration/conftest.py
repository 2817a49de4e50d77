"""Fixtures of the integration tests."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from libs.common.kafka.admin import apply_topics
from libs.common.kafka.publisher import Publisher
from tests.support.instance import PARTITIONS, Instance
from tests.support.scoring import Scoring
from tests.support.servers import Servers


@pytest.fixture
def instance(tmp_path: Path, perigee_topics: Servers, database: str) -> Iterator[Instance]:
    """A running Perigee on empty topics."""
    found = Instance(tmp_path / "home", perigee_topics, database)
    asyncio.run(apply_topics(perigee_topics.kafka, PARTITIONS))
    found.up()
    yield found
    found.down()


@pytest.fixture
async def publisher(servers: Servers) -> AsyncIterator[Publisher]:
    """A publisher to the real broker."""
    found = Publisher(servers.kafka)
    yield found
    await found.close()


@pytest.fixture
async def scoring(database: str) -> AsyncIterator[Scoring]:
    """Scoring on an empty database, with the cycle that ships."""
    found = Scoring(database)
    yield found
    await found.close()
