"""One transaction, committed here and nowhere else."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from libs.common.db.connection import Connection
from libs.common.failpoints import reach


@asynccontextmanager
async def unit_of_work(connection: Connection) -> AsyncIterator[Connection]:
    """Run the block in one READ COMMITTED transaction: commit at its end, roll back on any error."""
    transaction = connection.transaction(isolation="read_committed")
    await transaction.start()
    try:
        yield connection
        reach("before_commit")
    except BaseException:
        if not connection.is_closed():
            await transaction.rollback()
        raise
    await transaction.commit()
    reach("after_commit")
