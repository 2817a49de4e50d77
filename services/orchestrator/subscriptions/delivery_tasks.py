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
from services.orchestrator.subscriptions.delivery import SubscriptionDelivery
from services.orchestrator.subscriptions.repository import (
    delivery_log,
    retry_queue,
    subscriptions,
)

log = logs.get_logger(__name__)
PACE_SECONDS = 1.0
"""Minimum time between two rounds without a notification."""
RETRY_SECONDS = 60.0
SHUTDOWN_SECONDS = 18.0
"""Time for an ending task to store its outcomes; longer than the timeout of a request."""
LOG_RETENTION = parse_duration("30d")
"""Retention of attempts in the delivery log (µs)."""


class SubscriptionTask:
    """The task of one subscription: `wake` starts its next round, `stopping` ends it."""

    def __init__(self) -> None:
        self.wake, self.stopping = asyncio.Event(), asyncio.Event()
        self.task: asyncio.Task[None] | None = None


class SubscriptionTasks:
    """Runs a delivery task for each subscription of this process's share."""

    def __init__(
        self,
        database_url: str,
        sessions: SessionPool,
        delivery: SubscriptionDelivery,
        clock: Clock,
    ) -> None:
        self._database_url = database_url
        self._sessions = sessions
        self._delivery = delivery
        self._clock = clock
        self._shares = AdvisoryLockPool("perigee.webhooks")
        self._tasks: dict[int, SubscriptionTask] = {}
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
            before = self._clock.now() - LOG_RETENTION
            await delivery_log.delete_old(connection, before)
            await retry_queue.delete_given_up(connection, before)
        return False

    async def _share(self, connection: Connection, stop: asyncio.Event) -> None:
        await self._shares.register(connection, self._changed)
        await connection.add_listener(published.LOG_CHANNEL, lambda *_: self._wake_all())
        await connection.add_listener(
            subscriptions.SUBSCRIPTIONS_CHANNEL, lambda *_: self._subscriptions_changed()
        )
        try:
            while not stop.is_set():
                self._changed.clear()
                await self._shares.rebalance(
                    connection, await subscriptions.list_active_numbers(connection)
                )
                await self._run_exactly(self._shares.held)
                await wait_for_any(
                    stop, self._changed, seconds=self._shares.seconds_until_rebalance()
                )
        finally:
            await self._run_exactly(set())

    def _wake_all(self) -> None:
        for subscription_task in self._tasks.values():
            subscription_task.wake.set()

    def _subscriptions_changed(self) -> None:
        self._changed.set()
        self._wake_all()

    async def _run_exactly(self, numbers: set[int]) -> None:
        """Run a task for exactly these subscriptions; a stopped task stores its outcomes first."""
        ended = {number for number, t in self._tasks.items() if t.task and t.task.done()}
        stopped = [self._tasks.pop(number) for number in self._tasks.keys() - numbers | ended]
        for subscription_task in stopped:
            subscription_task.stopping.set()
            subscription_task.wake.set()
        if stopped:
            _, pending = await asyncio.wait(
                [t.task for t in stopped if t.task], timeout=SHUTDOWN_SECONDS
            )
            for task in pending:
                task.cancel()
        for number in numbers - self._tasks.keys():
            started = self._tasks[number] = SubscriptionTask()
            started.task = asyncio.create_task(self._deliver(number, started))

    async def _deliver(self, number: int, subscription_task: SubscriptionTask) -> None:
        """Run delivery rounds until `stopping` is set."""
        stopping, wake = subscription_task.stopping, subscription_task.wake
        while not stopping.is_set():
            wake.clear()
            try:
                if await self._delivery.deliver_round(number, stopping):
                    continue
                due_in = await self._delivery.seconds_until_due(number)
            except Unavailable as error:
                log.warning("webhook_round_postponed", subscription=number, error=str(error))
                due_in = PACE_SECONDS
            except Exception:  # an unforeseen error must not stop the other subscriptions
                log.exception("webhook_round_failed", subscription=number)
                metrics.WEBHOOKS.labels(outcome="error").inc()
                await wait_for_any(stopping, seconds=RETRY_SECONDS)
                continue
            seconds = FALLBACK_SECONDS if due_in is None else min(FALLBACK_SECONDS, due_in)
            await wait_for_any(stopping, wake, seconds=max(PACE_SECONDS, seconds))
