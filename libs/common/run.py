"""Running a service: signals become a stop event, a known error becomes one line and exit code 1."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable

import uvloop

from libs.common.errors import PerigeeError
from libs.common.observability import logs


def run_service(serve: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run `serve(stop)` until SIGTERM or SIGINT sets `stop`."""
    try:
        uvloop.run(_until_stopped(serve))
    except* PerigeeError as group:
        for error in _leaves(group):
            logs.get(__name__).critical("stopped", error=str(error), kind=type(error).__name__)
        sys.exit(1)


async def _until_stopped(serve: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, stop.set)
    await serve(stop)


def _leaves(group: BaseExceptionGroup[PerigeeError]) -> list[PerigeeError]:
    found: list[PerigeeError] = []
    for error in group.exceptions:
        found.extend(_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    return found
