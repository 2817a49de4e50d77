"""A task for each lane on which something is due: a channel or a destination that is slow or down slows no other."""

import asyncio
import contextlib

from libs.common.errors import Unavailable
from libs.common.observability import logs
from libs.common.service_runner import release_traceback
from services.orchestrator.handlers.decision_state import DispatchLane
from services.orchestrator.handlers.dispatcher import Dispatcher

log = logs.get_logger(__name__)
POLL_SECONDS = 0.3
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""How long a lane is left alone after a turn in which nobody was there, doubled each time."""


class DispatchLanes:
    """Drains the lanes side by side until told to stop."""

    def __init__(self, dispatcher: Dispatcher, wake: asyncio.Event) -> None:
        """`wake` is set when something new is due."""
        self._dispatcher = dispatcher
        self._wake = wake
        self._tasks: dict[DispatchLane, asyncio.Task[None]] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Drain until `stop`; what is under way is waited for."""
        while not stop.is_set():
            self._wake.clear()
            failed = False
            try:
                for lane in await self._dispatcher.list_lanes():
                    if lane not in self._tasks or self._tasks[lane].done():
                        self._tasks[lane] = asyncio.create_task(self._drain(lane, stop))
            except Unavailable as error:
                log.warning("lanes_wait", error=str(error))
                failed = True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), POLL_SECONDS)
            if failed:
                release_traceback()
        await asyncio.gather(*self._tasks.values())

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
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), pause)
