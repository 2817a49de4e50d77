"""Fixtures of the integration tests."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.common.kafka.admin import apply_topics
from tests.support.instance import PARTITIONS, Instance, clear_topics
from tests.support.servers import Servers


@pytest.fixture
def instance(tmp_path: Path, servers: Servers, database: str) -> Iterator[Instance]:
    """A running Perigee on empty topics."""
    asyncio.run(clear_topics(servers.kafka))
    found = Instance(tmp_path / "home", servers, database)
    asyncio.run(apply_topics(servers.kafka, PARTITIONS))
    found.up()
    yield found
    found.down()
