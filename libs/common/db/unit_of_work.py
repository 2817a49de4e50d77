"""Unit of work: the only function that commits a transaction."""

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
    """Run the block in a READ COMMITTED transaction: commit at its end, roll back on any error."""
    transaction = connection.transaction(isolation="read_committed")
    await transaction.start()
    try:
        yield connection
        hit("before_commit")
    except BaseException:
        if not connection.is_closed():
            # Bounded: an unresponsive server would block the rollback forever. An unanswered
            # rollback does no harm: the session closes its connection after any error, which
            # rolls back too.
            with contextlib.suppress(
                TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError
            ):
                await asyncio.wait_for(transaction.rollback(), ROLLBACK_SECONDS)
        raise
    await transaction.commit()
    hit("after_commit")
