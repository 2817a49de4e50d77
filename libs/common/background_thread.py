"""Long computations beside a service's event loop: consumers and requests go on."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def run_in_thread(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine in a thread with an event loop of its own.

    Return its result or raise its error.

    The coroutine opens its own connections: those of this loop cannot be shared. Cancelling this
    call cancels the coroutine at its next await. Threads share the interpreter: other tasks run on,
    at about half their speed.
    """
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = []
    cancelled = threading.Event()

    async def _main() -> T:
        task = asyncio.current_task()
        assert task is not None
        running.append((asyncio.get_running_loop(), task))
        if cancelled.is_set():
            raise asyncio.CancelledError
        return await work()

    job = asyncio.get_running_loop().run_in_executor(None, lambda: asyncio.run(_main()))
    try:
        return await asyncio.shield(job)
    except asyncio.CancelledError:
        cancelled.set()
        job.add_done_callback(lambda done: None if done.cancelled() else done.exception())
        for loop, task in running:
            loop.call_soon_threadsafe(task.cancel)
        raise
