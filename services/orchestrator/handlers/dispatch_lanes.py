"""A task for each lane on which something is due: a channel or a destination that is slow or down slows no other."""

import asyncio

from libs.common.errors import Unavailable
from libs.common.observability import logs
from libs.common.service_runner import run_when_due, wait_for_any
from services.orchestrator.handlers.decision_state import DispatchLane
from services.orchestrator.handlers.dispatcher import Dispatcher

log = logs.get_logger(__name__)
RETRY_SECONDS = 0.3
"""Delay of the next query after a lane's task has ended.

An action that is still due then was locked by another process.
"""
PACE_SECONDS = 0.02
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""How long a lane is left alone after a turn in which nobody was there, doubled each time."""


class DispatchLanes:
    """Drains the lanes side by side until told to stop."""

    def __init__(self, dispatcher: Dispatcher, wake: asyncio.Event) -> None:
        """`wake` is set when actions change."""
        self._dispatcher = dispatcher
        self._wake = wake
        self._tasks: dict[DispatchLane, asyncio.Task[None]] = {}
        self._next_due: float | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Drain until `stop`; what is under way is waited for."""

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
                self._tasks[lane].add_done_callback(self._look_again)
        later = [seconds for lane, seconds in delays.items() if lane not in self._tasks]
        self._next_due = min(later, default=None)

    def _look_again(self, _: asyncio.Task[None]) -> None:
        asyncio.get_running_loop().call_later(RETRY_SECONDS, self._wake.set)

    async def _seconds_until_due(self) -> float | None:
        return self._next_due

    async def _drain(self, lane: DispatchLane, stop: asyncio.Event) -> None:
        """Take turns while there is more; a lane on which nobody is there is left alone for longer and longer."""
        pause, more = 0.0, True
        while more and not stop.is_set():
            try:
                more, well = await self._dispatcher.dispatch_batch(lane)
                pause = 0.0 if well else min(LONGEST_PAUSE, max(FIRST_PAUSE, pause * 2))
            except Unavailable as error:
                log.warning("lane_waits", lane=lane, error=str(error))
                return
            except Exception:  # nobody foresaw it: that is no reason to stop all others
                log.exception("lane_failed", lane=lane)
                pause = LONGEST_PAUSE
            if pause:
                await wait_for_any(stop, seconds=pause)
