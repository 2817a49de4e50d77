"""Process entry of a service.

Signals set a stop event, jobs run periodically, and a PerigeeError ends the process with one log
line and exit code 1.
"""

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
"""Free bytes at the end of the heap that malloc keeps."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
FALLBACK_SECONDS = 15.0
"""Maximum time between two runs of a job, in case a notification is lost."""
_RETRY_SECONDS = 0.5


def tune_garbage_collector() -> None:
    """Run the cyclic garbage collector rarely.

    The objects of a batch are freed by reference counts; with the default thresholds the collector
    traverses the whole contact cache repeatedly, which took a fifth of scoring's CPU. The threshold
    is above the number of tracked objects alive during one consumer iteration: structs that cannot
    be part of a cycle have `gc=False` and do not count.
    """
    gc.freeze()
    gc.set_threshold(1_000_000, 20, 100)


def tune_malloc() -> None:
    """Let glibc's malloc keep the memory of large freed buffers; no effect on other allocators.

    Bodies and batches have tens to hundreds of kilobytes. By default each is mapped as new pages,
    which the kernel clears, and is unmapped again: a sixth of the cost of publishing.
    """
    with contextlib.suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD)
        mallopt(_M_TRIM_THRESHOLD, TRIM_THRESHOLD)


def release_traceback() -> None:
    """Free the objects of a failure's traceback, one loop iteration after it was handled.

    A traceback and its stack frames reference each other, and the collector runs rarely: a process
    grew by hundreds of megabytes while its servers were down for an hour. The young generation is
    small, so this costs next to nothing.
    """
    gc.collect(0)


def run_service(serve: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run `serve(stop)` until SIGTERM or SIGINT sets `stop`."""
    tune_garbage_collector()
    tune_malloc()
    try:
        uvloop.run(_until_stopped(serve))
    except* PerigeeError as group:
        for error in _flatten(group):
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
    """Run `job` until `stop`: at once while it returns True (more work), else after `seconds`.

    Unavailable is logged and the job retried; any other error ends the process for a restart.
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


async def run_when_due(
    stop: asyncio.Event,
    job: Callable[[], Awaitable[bool]],
    wake: asyncio.Event,
    seconds_until_due: Callable[[], Awaitable[float | None]] | None = None,
    *,
    pace: float = 0.5,
    fallback: float = FALLBACK_SECONDS,
) -> None:
    """Run `job` until `stop`: again at once while it returns True, else when it has work.

    The job has work when `wake` is set, when the seconds of `seconds_until_due` have passed (None:
    no work is scheduled), or after `fallback` seconds. Two runs begin at least `pace` seconds
    apart, so that frequent notifications do not multiply them; the first notification after a
    pause runs the job at once. Unavailable is logged and retried; any other error ends the process,
    which is then restarted.
    """
    clock = asyncio.get_running_loop().time
    while not stop.is_set():
        wake.clear()
        began = clock()
        failed = False
        wait = fallback
        try:
            if await job():
                continue
            due_in = await seconds_until_due() if seconds_until_due is not None else None
            if due_in is not None:
                wait = min(fallback, max(0.0, due_in))
        except Unavailable as error:
            log.warning("job_waits", job=getattr(job, "__name__", "job"), error=str(error))
            failed = True
        if failed:
            await wait_for_any(stop, seconds=max(pace, _RETRY_SECONDS))
            release_traceback()
            continue
        await wait_for_any(stop, wake, seconds=wait)
        remaining = began + pace - clock()
        if remaining > 0:
            await wait_for_any(stop, seconds=remaining)


async def wait_for_any(*events: asyncio.Event, seconds: float) -> None:
    """Wait until one of the events is set, at most `seconds`."""
    if any(event.is_set() for event in events):
        return
    waiters = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiters, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for waiter in waiters:
            waiter.cancel()


async def retry_until_available(call: Callable[[], Awaitable[object]], stop: asyncio.Event) -> None:
    """Repeat a call that has to succeed first until its dependency is available, or `stop`."""
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
    """Run the jobs and the web server until `stop`; an error in any of them ends all."""
    async with asyncio.TaskGroup() as tasks:
        for job in jobs:
            tasks.create_task(job)
        serving = tasks.create_task(web.serve())
        await stop.wait()
        web.should_exit = True
        await serving


def _flatten(group: BaseExceptionGroup[PerigeeError]) -> list[PerigeeError]:
    errors: list[PerigeeError] = []
    for error in group.exceptions:
        errors.extend(_flatten(error) if isinstance(error, BaseExceptionGroup) else [error])
    return errors
