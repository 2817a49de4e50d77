"""Disconnecting a consumer without waiting for ever."""

import asyncio
from typing import Any

from libs.common.observability import logs

STOP_SECONDS = 10
log = logs.get_logger(__name__)


async def stop_consumer(consumer: Any) -> None:
    """Stop an AIOKafkaConsumer, and leave it behind after STOP_SECONDS: its own stop can swallow being cancelled."""
    stopping = asyncio.create_task(consumer.stop())
    await asyncio.wait([stopping], timeout=STOP_SECONDS)
    if not stopping.done():
        log.warning(
            "consumer_left_behind",
            cure="none is needed: its member is forgotten when its session ends",
        )
        stopping.cancel()
    elif not stopping.cancelled() and stopping.exception() is not None:
        log.warning("consumer_not_stopped", error=repr(stopping.exception()))
