"""Coroutines run in a thread with a separate event loop: result, errors, cancellation."""

import asyncio
import threading

import pytest

from libs.common.background_thread import run_in_thread


async def test_coroutine_runs_in_another_thread():
    async def work():
        await asyncio.sleep(0)
        return threading.get_ident()

    assert await run_in_thread(work) != threading.get_ident()


async def test_error_is_raised_in_the_caller():
    async def work():
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        await run_in_thread(work)


async def test_cancellation_ends_the_coroutine():
    started, ended = threading.Event(), threading.Event()

    async def work():
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    task = asyncio.create_task(run_in_thread(work))
    await asyncio.to_thread(started.wait, 5)

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task

    assert await asyncio.to_thread(ended.wait, 5)
