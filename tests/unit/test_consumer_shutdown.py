"""Shutdown of a consumer is bounded in time, also when its stop blocks or fails."""

import asyncio
import contextlib

from libs.common.kafka import shutdown
from tests.support.waiting import wait_until


class BlockingConsumer:
    def __init__(self):
        self.release, self.ended = asyncio.Event(), False

    async def stop(self):
        while not self.release.is_set():
            with contextlib.suppress(asyncio.CancelledError):  # as aiokafka's coordinator does
                await self.release.wait()
        self.ended = True


class FailingConsumer:
    async def stop(self):
        raise ConnectionError("gone")


async def test_stop_ignoring_cancellation_is_abandoned(monkeypatch):
    monkeypatch.setattr(shutdown, "STOP_SECONDS", 0.05)
    consumer = BlockingConsumer()

    await shutdown.stop_consumer(consumer)

    assert not consumer.ended

    consumer.release.set()
    await wait_until(lambda: consumer.ended)


async def test_failing_stop_raises_nothing():
    await shutdown.stop_consumer(FailingConsumer())
