"""A door alone. Browsers are part of the long form: `make test-sdks`."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.instance import Instance, ingest_alone
from tests.support.servers import Servers

collect_ignore = [] if os.environ.get("PERIGEE_SDKS") == "all" else ["test_browsers.py", "test_tracker.py"]


@pytest.fixture
def door(tmp_path: Path, servers: Servers, database: str) -> Iterator[Instance]:
    """A real ingest."""
    with ingest_alone(tmp_path, servers, database) as found:
        yield found
