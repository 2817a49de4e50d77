"""Waiting in tests: for a condition with a generous deadline, never for a fixed time."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any

DEADLINE_SECONDS = 60.0
"""Far more than a condition needs on a quiet machine: a busy one is no fault of the code."""
_LOOK_SECONDS = 0.02


async def wait_until(
    condition: Callable[[], Awaitable[Any] | Any],
    seconds: float = DEADLINE_SECONDS,
    what: str = "the condition",
    every: float = _LOOK_SECONDS,
) -> Any:
    """Return the condition's first true value. Raises AssertionError after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        assert time.monotonic() < end, f"{what} did not come within {seconds:.0f} s"
        await asyncio.sleep(every)


def block_until(
    condition: Callable[[], Any],
    seconds: float = DEADLINE_SECONDS,
    what: str = "the condition",
    every: float = _LOOK_SECONDS,
) -> Any:
    """Return the condition's first true value, without an event loop. Raises AssertionError."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"{what} did not come within {seconds:.0f} s"
        time.sleep(every)
    return value


async def last(seconds: float) -> None:
    """Let a fault or a pause in traffic last this long.

    Never a wait for a result: the duration itself is part of the test.
    """
    await asyncio.sleep(seconds)
