"""Connections with the time limits that keep one stuck client from stopping the others."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence

import asyncpg

from libs.common.errors import Unavailable

Connection = asyncpg.Connection

_LIMITS = {
    "lock_timeout": "15s",
    "statement_timeout": "120s",
    "idle_in_transaction_session_timeout": "60s",
    "synchronous_commit": "on",
}

UNAVAILABLE = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    # What the driver says when its process was paused and the server has ended the session meanwhile.
    asyncpg.InternalClientError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
    asyncpg.InvalidCachedStatementError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.DiskFullError,
    asyncpg.ReadOnlySQLTransactionError,
    OSError,
    TimeoutError,
)
"""Errors that say nothing about the data: the same batch may pass when it is tried again."""


_OF_THE_DATA = ("22", "23", "54")
"""Classes of SQLSTATE that the data causes: what cannot be converted, constraints, what is too large for an index.

A missing column or right is not that.
"""


@contextlib.contextmanager
def translate_driver_errors() -> Iterator[None]:
    """Turn the driver's passing errors into Unavailable, so that callers need not know the driver."""
    try:
        yield
    except UNAVAILABLE as error:
        raise Unavailable(f"PostgreSQL: {type(error).__name__}: {error}") from error
    except asyncpg.PostgresError as error:
        if error.sqlstate and error.sqlstate[:2] not in _OF_THE_DATA:
            raise Unavailable(f"PostgreSQL: {type(error).__name__}: {error}") from error
        raise


async def connect(database_url: str, *, application: str) -> Connection:
    """Open one connection. Raises Unavailable when the server does not answer within 10 s."""
    with translate_driver_errors():
        return await asyncpg.connect(
            database_url,
            timeout=10,
            command_timeout=130,
            server_settings={**_LIMITS, "application_name": application},
        )


class Session:
    """One connection that is opened when it is needed and dropped after any error.

    A connection whose transaction failed half-way is never used again: opening one costs a few milliseconds, a
    poisoned one costs wrong data.
    """

    def __init__(self, database_url: str, application: str) -> None:
        self._database_url = database_url
        self._application = application
        self._connection: Connection | None = None
        self._lock = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        """Lend the connection to one task at a time; on any error it is closed."""
        async with self._lock:
            if self._connection is None or self._connection.is_closed():
                self._connection = await connect(self._database_url, application=self._application)
            try:
                with translate_driver_errors():
                    yield self._connection
            except BaseException:
                self._drop()
                raise

    async def check(self) -> str | None:
        """Return None when the database answers. Raises Unavailable when it does not."""
        async with self.acquire() as connection:
            await connection.fetchval("SELECT 1")
        return None

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and not connection.is_closed():
            connection.terminate()

    async def close(self) -> None:
        """Close the connection."""
        async with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None and not connection.is_closed():
                await connection.close(timeout=5)


class SessionPool:
    """A few sessions, each lent to one task at a time; who comes when all are lent waits."""

    def __init__(self, sessions: Sequence[Session]) -> None:
        self._free = list(sessions)
        self._gate = asyncio.Semaphore(len(self._free))

    @contextlib.asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        """Lend the connection of a free session; on any error it is closed."""
        async with self._gate:
            session = self._free.pop()
            try:
                async with session.acquire() as connection:
                    yield connection
            finally:
                self._free.append(session)
