"""Work in a thread with an event loop of its own: its result, its errors, its end."""

import asyncio
import threading

import pytest

from libs.common.background_thread import run_in_thread


async def test_the_result_comes_from_another_thread():
    async def work():
        await asyncio.sleep(0)
        return threading.get_ident()

    assert await run_in_thread(work) != threading.get_ident()


async def test_an_error_is_raised_here():
    async def work():
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        await run_in_thread(work)


async def test_cancelling_ends_the_work():
    begun, ended = threading.Event(), threading.Event()

    async def work():
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    task = asyncio.create_task(run_in_thread(work))
    await asyncio.to_thread(begun.wait, 5)

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(ended.wait, 5)
