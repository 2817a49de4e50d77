"""A door alone. Browsers are part of the long form: `make test-sdks`."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.instance import Instance, run_ingest_only
from tests.support.servers import Servers

collect_ignore = (
    []
    if os.environ.get("PERIGEE_SDKS") == "all"
    else ["test_browsers.py", "test_consent.py", "test_tracker.py"]
)


@pytest.fixture
def door(tmp_path: Path, perigee_topics: Servers, database: str) -> Iterator[Instance]:
    """A real ingest."""
    with run_ingest_only(tmp_path, perigee_topics, database) as found:
        yield found


@pytest.fixture
def linked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys by which the door knows its links."""
    keys = ["a-secret-for-links", "an-older-one"]
    monkeypatch.setenv("PERIGEE_LINK_KEYS", ",".join(keys))
    return keys


@pytest.fixture
async def shop(linked: list[str], door: Instance) -> AsyncIterator[Any]:
    """A site with our tracker, the door, and a browser."""
    from tests.sdks.demo_shop import visited  # its library is there for the long form alone

    async with visited(door) as found:
        yield found
