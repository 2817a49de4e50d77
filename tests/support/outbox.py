"""Scoring's outbox: its unpublished rows, and relays that publish them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from libs.common.db.connection import connect
from libs.common.db.outbox_relay import OutboxRelay
from libs.common.kafka.publisher import Publisher
from tests.support.servers import Servers


async def unpublished_rows(database: str) -> list[Any]:
    """Return the unpublished rows, oldest first: (id, refused)."""
    connection = await connect(database, application="test")
    try:
        return list(await connection.fetch("SELECT id, refused FROM scoring.outbox ORDER BY id"))
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def run_relays(servers: Servers, database: str, count: int = 1) -> AsyncIterator[None]:
    """Run relays, each with a publisher."""
    stop = asyncio.Event()
    publishers = [Publisher(servers.kafka) for _ in range(count)]
    tasks = [
        asyncio.create_task(OutboxRelay(database, "scoring", 3, p).run(stop)) for p in publishers
    ]
    yield
    stop.set()
    await asyncio.gather(*tasks)
    for p in publishers:
        await p.close()
