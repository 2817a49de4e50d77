"""Fixtures of ingest and a demo shop. Browsers run in the long form, `make test-sdks`."""

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
    else ["test_browsers.py", "test_consent.py", "test_tracker.py", "test_tracker_faults.py"]
)


@pytest.fixture
def ingest(tmp_path: Path, perigee_topics: Servers, database: str) -> Iterator[Instance]:
    """Real ingest process."""
    with run_ingest_only(tmp_path, perigee_topics, database) as instance:
        yield instance


@pytest.fixture
def link_keys(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys by which ingest checks its signed links."""
    keys = ["a-secret-for-links", "an-older-one"]
    monkeypatch.setenv("PERIGEE_LINK_KEYS", ",".join(keys))
    return keys


@pytest.fixture
async def shop(link_keys: list[str], ingest: Instance) -> AsyncIterator[Any]:
    """Site with Perigee's tracker, the ingest process and a browser."""
    from tests.sdks.demo_shop import open_shop  # Playwright is installed for the long form alone

    async with open_shop(ingest) as demo:
        yield demo
