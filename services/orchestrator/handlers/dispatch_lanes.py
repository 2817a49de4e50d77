"""Dispatch lanes: one task per lane with due actions, so that no lane slows another."""

import asyncio

from libs.common.errors import Unavailable
from libs.common.observability import logs
from libs.common.service_runner import run_when_due, wait_for_any
from services.orchestrator.handlers.dispatcher import Dispatcher
from services.orchestrator.repository.actions import DispatchLane

log = logs.get_logger(__name__)
RETRY_SECONDS = 0.3
"""Delay of the next query after the task of a lane has ended.

An action that is still due then was locked by another process.
"""
PACE_SECONDS = 0.02
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Pauses of a lane after batches that its receiver did not answer, doubled each time."""


class DispatchLanes:
    """Drains the lanes concurrently."""

    def __init__(self, dispatcher: Dispatcher, wake: asyncio.Event) -> None:
        """`wake` is set when actions change."""
        self._dispatcher = dispatcher
        self._wake = wake
        self._tasks: dict[DispatchLane, asyncio.Task[None]] = {}
        self._next_due: float | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Drain until `stop` is set, then wait for the batches under way."""

        async def start_due_lanes() -> bool:
            await self._start_due(stop)
            return False

        await run_when_due(
            stop, start_due_lanes, self._wake, self._seconds_until_due, pace=PACE_SECONDS
        )
        await asyncio.gather(*self._tasks.values())

    async def _start_due(self, stop: asyncio.Event) -> None:
        delays = await self._dispatcher.get_lane_delays()
        self._tasks = {lane: task for lane, task in self._tasks.items() if not task.done()}
        for lane, seconds in delays.items():
            if seconds <= 0 and lane not in self._tasks:
                self._tasks[lane] = asyncio.create_task(self._drain(lane, stop))
                self._tasks[lane].add_done_callback(self._query_again)
        later = [seconds for lane, seconds in delays.items() if lane not in self._tasks]
        self._next_due = min(later, default=None)

    def _query_again(self, _: asyncio.Task[None]) -> None:
        asyncio.get_running_loop().call_later(RETRY_SECONDS, self._wake.set)

    async def _seconds_until_due(self) -> float | None:
        return self._next_due

    async def _drain(self, lane: DispatchLane, stop: asyncio.Event) -> None:
        """Dispatch batches until none is due, with growing pauses while the receiver is down."""
        pause, more = 0.0, True
        while more and not stop.is_set():
            try:
                more, is_healthy = await self._dispatcher.dispatch_batch(lane)
                pause = 0.0 if is_healthy else min(LONGEST_PAUSE, max(FIRST_PAUSE, pause * 2))
            except Unavailable as error:
                log.warning("lane_waits", lane=lane, error=str(error))
                return
            except Exception:  # an unforeseen error must not stop the other lanes
                log.exception("lane_failed", lane=lane)
                pause = LONGEST_PAUSE
            if pause:
                await wait_for_any(stop, seconds=pause)
