"""Who carries which subscription: each process its fair share, under locks that go with its connection."""

import asyncio
import contextlib

from libs.common.clock import Clock
from libs.common.db.connection import Connection, Pool, connect, translated
from libs.common.db.shares import Shares
from libs.common.durations import duration
from libs.common.errors import Unavailable
from libs.common.observability import logs
from services.orchestrator.handlers.delivering import Delivering
from services.orchestrator.repository import subscriptions

log = logs.get(__name__)
LOOK_SECONDS = 1.0
KEPT = duration("30d")
"""How long an attempt stays in the delivery log (µs)."""


class Webhooks:
    """Runs a task for each subscription of this process's share."""

    def __init__(self, database_url: str, sessions: Pool, delivering: Delivering, clock: Clock) -> None:
        self._database_url = database_url
        self._sessions = sessions
        self._delivering = delivering
        self._clock = clock
        self._shares = Shares("perigee.webhooks")
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._news: dict[int, asyncio.Event] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Deliver until `stop`; a lost connection is opened again, its locks having gone with it."""
        while not stop.is_set():
            try:
                connection = await connect(self._database_url, application="orchestrator-webhooks")
            except Unavailable:
                await asyncio.sleep(1)
                continue
            try:
                with translated():
                    await self._share(connection, stop)
            except Unavailable as error:
                log.warning("webhooks_interrupted", error=str(error))
                await asyncio.sleep(0.3)
            finally:
                await self._keep(set())
                with contextlib.suppress(Exception):
                    await connection.close(timeout=2)

    async def forget(self) -> bool:
        """Forget old attempts."""
        async with self._sessions.use() as connection:
            await subscriptions.forget_attempts(connection, self._clock.now() - KEPT)
        return False

    async def _share(self, connection: Connection, stop: asyncio.Event) -> None:
        await self._shares.join(connection)
        await connection.add_listener("scoring_log", lambda *_: self._wake())
        while not stop.is_set():
            await self._shares.share(connection, await subscriptions.active(connection))
            await self._keep(self._shares.held)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), LOOK_SECONDS)

    def _wake(self) -> None:
        for news in self._news.values():
            news.set()

    async def _keep(self, numbers: set[int]) -> None:
        """Run tasks for these subscriptions and no others."""
        gone = [self._tasks.pop(number) for number in self._tasks.keys() - numbers]
        for task in gone:
            task.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        for number in numbers - self._tasks.keys():
            self._news[number] = asyncio.Event()
            self._tasks[number] = asyncio.create_task(self._carry(number, self._news[number]))
        for task in self._tasks.values():
            if task.done():
                task.result()  # an error that nobody foresaw ends the process, which is then started again

    async def _carry(self, number: int, news: asyncio.Event) -> None:
        while True:
            news.clear()
            try:
                more = await self._delivering.turn(number)
            except Unavailable as error:
                log.warning("webhook_turn_waits", subscription=number, error=str(error))
                more = False
            if not more:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(news.wait(), LOOK_SECONDS)
