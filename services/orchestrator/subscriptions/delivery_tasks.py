"""Who carries which subscription: each process its fair share, under locks that go with its connection."""

import asyncio
import contextlib

from libs.common.clock import Clock
from libs.common.db.advisory_locks import AdvisoryLockPool
from libs.common.db.connection import Connection, SessionPool
from libs.common.db.dedicated_connection import run_on_dedicated_connection
from libs.common.durations import parse_duration
from libs.common.errors import Unavailable
from libs.common.observability import logs, metrics
from services.orchestrator.subscriptions import repository
from services.orchestrator.subscriptions.delivery import SubscriptionDelivery

log = logs.get_logger(__name__)
POLL_SECONDS = 1.0
RETRY_SECONDS = 60.0
SHUTDOWN_SECONDS = 18.0
"""How long one that goes may take to write down what it has tried: longer than a receiver may take to answer."""
LOG_RETENTION = parse_duration("30d")
"""How long an attempt stays in the delivery log (µs)."""


class SubscriptionTask:
    """One subscription's task: `news` wakes it, `leaving` ends it."""

    def __init__(self) -> None:
        self.news, self.leaving = asyncio.Event(), asyncio.Event()
        self.task: asyncio.Task[None] | None = None


class SubscriptionTasks:
    """Runs a task for each subscription of this process's share."""

    def __init__(
        self,
        database_url: str,
        sessions: SessionPool,
        delivering: SubscriptionDelivery,
        clock: Clock,
    ) -> None:
        self._database_url = database_url
        self._sessions = sessions
        self._delivering = delivering
        self._clock = clock
        self._shares = AdvisoryLockPool("perigee.webhooks")
        self._lanes: dict[int, SubscriptionTask] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Deliver until `stop`; a lost connection is opened again, its locks having gone with it."""
        await run_on_dedicated_connection(
            self._database_url,
            "orchestrator-webhooks",
            stop,
            lambda found: self._share(found, stop),
        )

    async def delete_old_attempts(self) -> bool:
        """Forget old attempts, and what was given up long ago."""
        async with self._sessions.acquire() as connection:
            await repository.delete_old(connection, self._clock.now() - LOG_RETENTION)
        return False

    async def _share(self, connection: Connection, stop: asyncio.Event) -> None:
        await self._shares.register(connection)
        await connection.add_listener("scoring_log", lambda *_: self._wake())
        try:
            while not stop.is_set():
                await self._shares.rebalance(
                    connection, await repository.list_active_numbers(connection)
                )
                await self._keep(self._shares.held)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), POLL_SECONDS)
        finally:
            await self._keep(set())

    def _wake(self) -> None:
        for lane in self._lanes.values():
            lane.news.set()

    async def _keep(self, numbers: set[int]) -> None:
        """Run tasks for these subscriptions alone, again if one has ended; one that goes writes down what it has tried."""
        ended = {number for number, lane in self._lanes.items() if lane.task and lane.task.done()}
        gone = [self._lanes.pop(number) for number in self._lanes.keys() - numbers | ended]
        for lane in gone:
            lane.leaving.set()
            lane.news.set()
        if gone:
            _, late = await asyncio.wait(
                [lane.task for lane in gone if lane.task], timeout=SHUTDOWN_SECONDS
            )
            for task in late:
                task.cancel()
        for number in numbers - self._lanes.keys():
            lane = self._lanes[number] = SubscriptionTask()
            lane.task = asyncio.create_task(self._carry(number, lane))

    async def _carry(self, number: int, lane: SubscriptionTask) -> None:
        while not lane.leaving.is_set():
            lane.news.clear()
            more, pause = False, POLL_SECONDS
            try:
                more = await self._delivering.deliver_round(number, lane.leaving)
            except Unavailable as error:
                log.warning("webhook_turn_waits", subscription=number, error=str(error))
            except Exception:  # nobody foresaw it: that is no reason to stop all others, and mails and plays with them
                log.exception("webhook_turn_failed", subscription=number)
                metrics.WEBHOOKS.labels(outcome="error").inc()
                pause = RETRY_SECONDS
            if not more and not lane.leaving.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(
                        (lane.leaving if pause > POLL_SECONDS else lane.news).wait(), pause
                    )
