"""Dedicated connection for a job that needs session locks or notifications."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from libs.common.db.connection import Connection, connect, translate_driver_errors
from libs.common.errors import Unavailable
from libs.common.observability import logs
from libs.common.service_runner import release_traceback

log = logs.get_logger(__name__)


async def run_on_dedicated_connection(
    database_url: str,
    application: str,
    stop: asyncio.Event,
    job: Callable[[Connection], Awaitable[None]],
) -> None:
    """Run `job` on a connection until `stop`.

    A lost connection is reopened and the job restarted; session locks are lost with it.
    """
    while not stop.is_set():
        try:
            connection = await connect(database_url, application=application)
        except Unavailable:
            connection = None
        if connection is None:
            await asyncio.sleep(1)
            release_traceback()
            continue
        try:
            with translate_driver_errors():
                await job(connection)
        except Unavailable as error:
            log.warning("connection_lost", application=application, error=str(error))
            await asyncio.sleep(0.3)
        finally:
            with contextlib.suppress(Exception):
                await connection.close(timeout=2)
