"""Consumer supervisor: rebuilds a failed consumer and reports one without progress."""

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


async def supervise_consumer(make_consumer: Callable[[], Consumer], stop: asyncio.Event) -> None:
    """Run a consumer until `stop`; a transient error builds a new one, any other is raised."""
    while not stop.is_set():
        try:
            await make_consumer().run(stop)
        except (Unavailable, KafkaError) as error:
            log.warning("consumer_restarted", error=repr(error))
        else:
            continue
        await asyncio.sleep(1)
        release_traceback()


def check_progress(current: Sequence[Consumer]) -> str | None:
    """Return the fault of a consumer without a poll for STUCK_SECONDS, else None."""
    idle = time.monotonic() - current[0].last_poll if current else 0.0
    return f"no poll for {idle:.0f} s" if idle > STUCK_SECONDS else None
