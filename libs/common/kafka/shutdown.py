"""Consumer shutdown with a time limit."""

import asyncio
from typing import Any

from libs.common.observability import logs

STOP_SECONDS = 10
log = logs.get_logger(__name__)


async def stop_consumer(consumer: Any) -> None:
    """Stop an AIOKafkaConsumer; abandon it after STOP_SECONDS.

    A plain timeout would not do, since its `stop` can suppress the cancellation.
    """
    stopping = asyncio.create_task(consumer.stop())
    await asyncio.wait([stopping], timeout=STOP_SECONDS)
    if not stopping.done():
        log.warning(
            "consumer_left_behind",
            cure="none needed: the group removes its member when its session times out",
        )
        stopping.cancel()
    elif not stopping.cancelled() and stopping.exception() is not None:
        log.warning("consumer_not_stopped", error=repr(stopping.exception()))
