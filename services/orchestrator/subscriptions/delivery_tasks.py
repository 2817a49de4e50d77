"""Delivery tasks: each process runs a fair share of the subscriptions, under advisory locks.

The locks are those of one connection and end with it.
"""

import asyncio

from libs.common.clock import Clock
from libs.common.db import published_messages as published
from libs.common.db.advisory_locks import AdvisoryLockPool
from libs.common.db.connection import Connection, SessionPool
from libs.common.db.dedicated_connection import run_on_dedicated_connection
from libs.common.durations import parse_duration
from libs.common.errors import Unavailable
from libs.common.observability import logs, metrics
from libs.common.service_runner import FALLBACK_SECONDS, wait_for_any
from services.orchestrator.subscriptions import repository
from services.orchestrator.subscriptions.delivery import SubscriptionDelivery

log = logs.get_logger(__name__)
PACE_SECONDS = 1.0
"""Minimum time between two rounds without a notification."""
RETRY_SECONDS = 60.0
SHUTDOWN_SECONDS = 18.0
"""Time for an ending task to store its outcomes; longer than the timeout of a request."""
LOG_RETENTION = parse_duration("30d")
"""Retention of attempts in the delivery log (µs)."""


class SubscriptionTask:
    """The task of one subscription: `news` wakes it, `leaving` ends it."""

    def __init__(self) -> None:
        self.news, self.leaving = asyncio.Event(), asyncio.Event()
        self.task: asyncio.Task[None] | None = None


class SubscriptionTasks:
    """Runs a delivery task for each subscription of this process's share."""

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
        self._changed = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Deliver until `stop`; a lost connection, which ends its locks, is opened again."""
        await run_on_dedicated_connection(
            self._database_url,
            "orchestrator-webhooks",
            stop,
            lambda connection: self._share(connection, stop),
        )

    async def delete_old_attempts(self) -> bool:
        """Delete attempts and given-up messages older than `LOG_RETENTION`."""
        async with self._sessions.acquire() as connection:
            await repository.delete_old(connection, self._clock.now() - LOG_RETENTION)
        return False

    async def _share(self, connection: Connection, stop: asyncio.Event) -> None:
        await self._shares.register(connection, self._changed)
        await connection.add_listener(published.LOG_CHANNEL, lambda *_: self._wake())
        await connection.add_listener(
            repository.SUBSCRIPTIONS_CHANNEL, lambda *_: self._subscriptions_changed()
        )
        try:
            while not stop.is_set():
                self._changed.clear()
                await self._shares.rebalance(
                    connection, await repository.list_active_numbers(connection)
                )
                await self._keep(self._shares.held)
                await wait_for_any(
                    stop, self._changed, seconds=self._shares.seconds_until_rebalance()
                )
        finally:
            await self._keep(set())

    def _wake(self) -> None:
        for lane in self._lanes.values():
            lane.news.set()

    def _subscriptions_changed(self) -> None:
        self._changed.set()
        self._wake()

    async def _keep(self, numbers: set[int]) -> None:
        """Run a task for exactly these subscriptions; a stopped task stores its outcomes first."""
        ended = {number for number, lane in self._lanes.items() if lane.task and lane.task.done()}
        stopped = [self._lanes.pop(number) for number in self._lanes.keys() - numbers | ended]
        for lane in stopped:
            lane.leaving.set()
            lane.news.set()
        if stopped:
            _, pending = await asyncio.wait(
                [lane.task for lane in stopped if lane.task], timeout=SHUTDOWN_SECONDS
            )
            for task in pending:
                task.cancel()
        for number in numbers - self._lanes.keys():
            lane = self._lanes[number] = SubscriptionTask()
            lane.task = asyncio.create_task(self._carry(number, lane))

    async def _carry(self, number: int, lane: SubscriptionTask) -> None:
        """Run delivery rounds until `leaving` is set."""
        while not lane.leaving.is_set():
            lane.news.clear()
            try:
                if await self._delivering.deliver_round(number, lane.leaving):
                    continue
                due_in = await self._delivering.seconds_until_due(number)
            except Unavailable as error:
                log.warning("webhook_round_postponed", subscription=number, error=str(error))
                due_in = PACE_SECONDS
            except Exception:  # an unforeseen error must not stop the other subscriptions
                log.exception("webhook_round_failed", subscription=number)
                metrics.WEBHOOKS.labels(outcome="error").inc()
                await wait_for_any(lane.leaving, seconds=RETRY_SECONDS)
                continue
            seconds = FALLBACK_SECONDS if due_in is None else min(FALLBACK_SECONDS, due_in)
            await wait_for_any(lane.leaving, lane.news, seconds=max(PACE_SECONDS, seconds))
