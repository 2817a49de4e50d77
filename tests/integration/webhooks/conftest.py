"""Fixtures of the webhook tests."""

import pytest

from libs.common.clock import FixedClock, SystemClock
from tests.integration.webhooks.harness import DeliveryHarness
from tests.support.webhook_receiver import WebhookReceiver


@pytest.fixture
async def harness(database):
    delivery_harness = DeliveryHarness(database, FixedClock(SystemClock().now()))
    yield delivery_harness
    await delivery_harness.close()


@pytest.fixture
async def receiver():
    webhook_receiver = WebhookReceiver()
    yield webhook_receiver
    await webhook_receiver.stop()
