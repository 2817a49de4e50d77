"""Running a service: signals become a stop event, jobs run by turns, a known error becomes one line and exit code 1."""

import asyncio
import contextlib
import ctypes
import gc
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import uvicorn
import uvloop

from libs.common.errors import PerigeeError, Unavailable
from libs.common.observability import logs

log = logs.get_logger(__name__)
MMAP_THRESHOLD = 8 * 1024 * 1024
TRIM_THRESHOLD = 64 * 1024 * 1024
"""Bytes at the end of the heap that stay, however few are in use."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def tune_garbage_collector() -> None:
    """Let the cyclic garbage collector look rarely.

    What a batch makes is freed by reference counts; by default the collector walks the whole cache of contacts again and
    again, which took a fifth of scoring's CPU. The threshold is above what a turn of a consumer holds alive: structs that
    cannot be part of a cycle say `gc=False` and do not count.
    """
    gc.freeze()
    gc.set_threshold(1_000_000, 20, 100)


def tune_malloc() -> None:
    """Let glibc's malloc keep what large buffers leave; any other is left as it is.

    Bodies and batches have tens to hundreds of kilobytes. By default each came as new pages from the kernel, which clears them
    one by one, and went back: a sixth of what publishing costs.
    """
    with contextlib.suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD)
        mallopt(_M_TRIM_THRESHOLD, TRIM_THRESHOLD)


def release_traceback() -> None:
    """Free what a failure's traceback holds: a turn of the loop later, when nobody looks at it any more.

    A traceback and its frames hold each other, and the collector looks rarely: a process whose servers were away for an hour
    had grown by hundreds of megabytes. What is young is little, so this takes next to nothing.
    """
    gc.collect(0)


def run_service(serve: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run `serve(stop)` until SIGTERM or SIGINT sets `stop`."""
    tune_garbage_collector()
    tune_malloc()
    try:
        uvloop.run(_until_stopped(serve))
    except* PerigeeError as group:
        for error in _leaves(group):
            log.critical("stopped", error=str(error), kind=type(error).__name__)
        sys.exit(1)


async def _until_stopped(serve: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, stop.set)
    await serve(stop)


async def run_periodically(
    stop: asyncio.Event, seconds: float, job: Callable[[], Awaitable[bool]]
) -> None:
    """Run `job` until `stop`: at once again while it says that there is more, else after `seconds`.

    A dependency that is away is waited for; any other error ends the process, which is then started again.
    """
    while not stop.is_set():
        more = failed = False
        try:
            more = await job()
        except Unavailable as error:
            log.warning("job_waits", job=getattr(job, "__name__", "job"), error=str(error))
            failed = True
        if not more:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), seconds)
        if failed:
            release_traceback()


async def retry_until_available(call: Callable[[], Awaitable[object]], stop: asyncio.Event) -> None:
    """Make a call that has to succeed before anything else, as often as its dependency is away."""
    while not stop.is_set():
        try:
            await call()
        except Unavailable as error:
            log.warning("start_waits", error=str(error))
            await asyncio.sleep(1)
        else:
            return


async def run_jobs_and_server(
    stop: asyncio.Event, web: uvicorn.Server, *jobs: Coroutine[Any, Any, None]
) -> None:
    """Run the jobs and the web server until `stop`; an error of one ends them all."""
    async with asyncio.TaskGroup() as tasks:
        for job in jobs:
            tasks.create_task(job)
        serving = tasks.create_task(web.serve())
        await stop.wait()
        web.should_exit = True
        await serving


def _leaves(group: BaseExceptionGroup[PerigeeError]) -> list[PerigeeError]:
    found: list[PerigeeError] = []
    for error in group.exceptions:
        found.extend(_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    return found
