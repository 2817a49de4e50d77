"""Wake-ups of background jobs by LISTEN and NOTIFY, on one connection per process.

The statement that creates work notifies its channel in the same transaction, so the notification
arrives with the commit; PostgreSQL delivers equal notifications of one transaction once. A
notification can be lost only with the listening connection. Therefore every event is set after each
connect, and every job queries its table once per FALLBACK_SECONDS
(`libs.common.service_runner.run_when_due`).
"""

import asyncio

from libs.common.db.connection import Connection
from libs.common.db.dedicated_connection import run_on_dedicated_connection
from libs.common.service_runner import FALLBACK_SECONDS, wait_for_any


async def notify(connection: Connection, channel: str) -> None:
    """Notify a channel when the transaction commits."""
    await connection.execute(f"NOTIFY {channel}")


def with_notification(statement: str, channel: str) -> str:
    """Return a statement that also notifies `channel` if it changes rows.

    `statement` is an INSERT, UPDATE or DELETE without RETURNING.
    """
    return (
        f"WITH changed AS ({statement} RETURNING 1) "  # noqa: S608
        f"SELECT pg_notify('{channel}', '') FROM changed LIMIT 1"
    )


class Wakeups:
    """Events of this process's jobs, set by notifications."""

    def __init__(self, database_url: str, application: str) -> None:
        self._database_url = database_url
        self._application = application
        self._events: dict[str, list[asyncio.Event]] = {}

    def subscribe(self, *channels: str) -> asyncio.Event:
        """Return a new event that any of these channels sets; subscriptions precede `run`."""
        event = asyncio.Event()
        for channel in channels:
            self._events.setdefault(channel, []).append(event)
        return event

    async def run(self, stop: asyncio.Event) -> None:
        """Listen until `stop` is set; a lost connection is opened again."""
        await run_on_dedicated_connection(
            self._database_url,
            self._application,
            stop,
            lambda connection: self._listen(connection, stop),
        )

    async def _listen(self, connection: Connection, stop: asyncio.Event) -> None:
        lost = asyncio.Event()
        connection.add_termination_listener(lambda *_: lost.set())
        for channel in self._events:
            await connection.add_listener(channel, lambda *args: self._wake(args[2]))
        for channel in self._events:
            self._wake(channel)  # work may have been created before LISTEN
        while not stop.is_set():
            await wait_for_any(stop, lost, seconds=FALLBACK_SECONDS)
            # Fails on a connection that a firewall has dropped silently.
            await connection.execute("SELECT 1")

    def _wake(self, channel: str) -> None:
        for event in self._events[channel]:
            event.set()
