"""A consumer that cannot be stopped holds nobody up."""

import asyncio
import contextlib

from libs.common.kafka import shutdown
from tests.support.waiting import wait_until


class Stubborn:
    def __init__(self):
        self.release, self.ended = asyncio.Event(), False

    async def stop(self):
        while not self.release.is_set():
            with contextlib.suppress(asyncio.CancelledError):  # as aiokafka's coordinator does
                await self.release.wait()
        self.ended = True


class Broken:
    async def stop(self):
        raise ConnectionError("gone")


async def test_a_stop_that_swallows_being_cancelled_is_left_behind(monkeypatch):
    monkeypatch.setattr(shutdown, "STOP_SECONDS", 0.05)
    stubborn = Stubborn()
    await shutdown.stop_consumer(stubborn)
    assert not stubborn.ended
    stubborn.release.set()
    await wait_until(lambda: stubborn.ended)


async def test_a_stop_that_fails_is_said_and_no_more():
    await shutdown.stop_consumer(Broken())
