"""A door alone. Browsers are part of the long form: `make test-sdks`."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.common.kafka.admin import apply_topics
from tests.support.instance import PARTITIONS, Instance, clear_topics
from tests.support.servers import Servers

collect_ignore = [] if os.environ.get("PERIGEE_SDKS") == "all" else ["test_browsers.py", "test_tracker.py"]


@pytest.fixture
def door(tmp_path: Path, servers: Servers, database: str) -> Iterator[Instance]:
    """A real ingest on real servers, and nothing else of Perigee."""
    asyncio.run(clear_topics(servers.kafka))
    instance = Instance(tmp_path, servers, database)
    asyncio.run(apply_topics(servers.kafka, PARTITIONS))
    ingest = instance.stack.services()[0]
    ingest.start()
    ingest.wait()
    yield instance
    instance.down()
