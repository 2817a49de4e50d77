"""Fixtures of the webhook tests."""

import pytest

from libs.common.clock import FixedClock, SystemClock
from tests.integration.webhooks.bench import Bench
from tests.support.receiver import Receiver


@pytest.fixture
async def bench(database):
    found = Bench(database, FixedClock(SystemClock().now()))
    yield found
    await found.close()


@pytest.fixture
async def receiver():
    found = Receiver()
    yield found
    await found.stop()
