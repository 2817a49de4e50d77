"""Connections with time limits, so that a stuck client cannot block the other clients."""

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
    # Raised by the driver when its process was paused and the server closed the session meanwhile.
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
"""Errors independent of the data: a retry of the same batch may succeed."""


_DATA_ERROR_CLASSES = ("22", "23", "54")
"""SQLSTATE classes of errors caused by the data: conversion, constraints, program limits.

A missing column or privilege is not among them.
"""


@contextlib.contextmanager
def translate_driver_errors() -> Iterator[None]:
    """Turn the driver's transient errors into Unavailable, so that callers need not know it."""
    try:
        yield
    except UNAVAILABLE as error:
        raise Unavailable(f"PostgreSQL: {type(error).__name__}: {error}") from error
    except asyncpg.PostgresError as error:
        if error.sqlstate and error.sqlstate[:2] not in _DATA_ERROR_CLASSES:
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
    """Connection that is opened on demand and closed after any error.

    A connection with a failed transaction is never reused: a new one costs a few milliseconds, an
    undefined session state costs wrong data.
    """

    def __init__(self, database_url: str, application: str) -> None:
        self._database_url = database_url
        self._application = application
        self._connection: Connection | None = None
        self._lock = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        """Lend the connection to a single task at a time; any error closes it."""
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
    """Pool of sessions, each lent to a single task at a time; a task waits while none is free."""

    def __init__(self, sessions: Sequence[Session]) -> None:
        self._free = list(sessions)
        self._gate = asyncio.Semaphore(len(self._free))

    @contextlib.asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        """Lend the connection of a free session; any error closes it."""
        async with self._gate:
            session = self._free.pop()
            try:
                async with session.acquire() as connection:
                    yield connection
            finally:
                self._free.append(session)
