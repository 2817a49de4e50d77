"""One transaction, committed here and nowhere else."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from libs.common.db.connection import Connection
from libs.common.failpoints import hit

ROLLBACK_SECONDS = 5


@asynccontextmanager
async def unit_of_work(connection: Connection) -> AsyncIterator[Connection]:
    """Run the block in one READ COMMITTED transaction: commit at its end, roll back on any error."""
    transaction = connection.transaction(isolation="read_committed")
    await transaction.start()
    try:
        yield connection
        hit("before_commit")
    except BaseException:
        if not connection.is_closed():
            # Bounded: to a server that fell silent it would wait for ever, holding up whoever waits for this batch. An
            # unanswered one is no loss: the session closes its connection after any error, and that rolls back too.
            with contextlib.suppress(
                TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError
            ):
                await asyncio.wait_for(transaction.rollback(), ROLLBACK_SECONDS)
        raise
    await transaction.commit()
    hit("after_commit")
