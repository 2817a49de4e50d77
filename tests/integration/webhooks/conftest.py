"""Fixtures of the webhook tests."""

import pytest

from libs.common.clock import FixedClock, SystemClock
from tests.integration.webhooks.harness import Bench
from tests.support.webhook_receiver import WebhookReceiver


@pytest.fixture
async def bench(database):
    found = Bench(database, FixedClock(SystemClock().now()))
    yield found
    await found.close()


@pytest.fixture
async def receiver():
    found = WebhookReceiver()
    yield found
    await found.stop()
