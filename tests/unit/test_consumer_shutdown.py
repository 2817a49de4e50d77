"""A consumer that cannot be stopped holds nobody up."""

import asyncio
import contextlib
import time

from libs.common.kafka import shutdown


class Stubborn:
    async def stop(self):
        for _ in range(3):
            with contextlib.suppress(asyncio.CancelledError):  # as aiokafka's coordinator does
                await asyncio.sleep(0.3)


class Broken:
    async def stop(self):
        raise ConnectionError("gone")


async def test_a_stop_that_swallows_being_cancelled_is_left_behind(monkeypatch):
    monkeypatch.setattr(shutdown, "STOP_SECONDS", 0.05)
    begun = time.monotonic()
    await shutdown.stop_consumer(Stubborn())
    assert time.monotonic() - begun < 0.25
    await asyncio.sleep(0.7)


async def test_a_stop_that_fails_is_said_and_no_more():
    await shutdown.stop_consumer(Broken())
