"""Keeping a consumer at work: one that lost its footing is built anew, one that makes no progress is reported."""

import asyncio
import time
from collections.abc import Callable, Sequence

from aiokafka.errors import KafkaError

from libs.common.errors import Unavailable
from libs.common.kafka.consumer import Consumer
from libs.common.observability import logs
from libs.common.service_runner import release_traceback

STUCK_SECONDS = 90
log = logs.get_logger(__name__)


async def supervise_consumer(make: Callable[[], Consumer], stop: asyncio.Event) -> None:
    """Run consumers until `stop`; a passing fault builds the next one, any other ends the process."""
    while not stop.is_set():
        try:
            await make().run(stop)
        except (Unavailable, KafkaError) as error:
            log.warning("consumer_restarted", error=repr(error))
        else:
            continue
        await asyncio.sleep(1)
        release_traceback()


def check_progress(current: Sequence[Consumer]) -> str | None:
    """Return what is wrong when the consumer has not polled for STUCK_SECONDS: liveness means progress."""
    idle = time.monotonic() - current[0].last_poll if current else 0.0
    return f"no poll for {idle:.0f} s" if idle > STUCK_SECONDS else None
