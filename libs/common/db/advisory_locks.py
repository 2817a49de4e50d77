"""Pool of session advisory locks that divides numbered shards fairly among processes.

The locks belong to one connection and are released with it. Work under a lock must run on that
connection, or be idempotent, so that another process can repeat it.
"""

import asyncio
import zlib
from collections.abc import Sequence

from libs.common.db.connection import Connection
from libs.common.service_runner import FALLBACK_SECONDS

SHARED_SECONDS = 1.0
"""Interval of rebalances while other processes have locks: a crash sends no notification."""


class AdvisoryLockPool:
    """The shards that this process has locked, up to its fair share.

    A process that joins the pool notifies the members. A process that ends notifies no member, so
    the members rebalance every SHARED_SECONDS, except a process that has every lock.
    """

    def __init__(self, name: str) -> None:
        self._class = zlib.crc32(name.encode()) & 0x7FFFFFFF
        self._channel = f"{name.replace('.', '_')}_members"
        self._next_rebalance = 0.0
        self.held: set[int] = set()

    async def register(self, connection: Connection, wake: asyncio.Event) -> None:
        """Register the process as a member of the pool while the connection is open.

        `wake` is set when another process joins, and when the connection is closed.
        """
        self.held.clear()
        self._next_rebalance = 0.0

        def rebalance_now(*_: object) -> None:
            """Let the next call of `rebalance` act at once."""
            self._next_rebalance = 0.0
            wake.set()

        connection.add_termination_listener(rebalance_now)
        await connection.add_listener(self._channel, rebalance_now)
        await connection.execute("SELECT pg_advisory_lock_shared($1, -1)", self._class)
        await connection.execute(f"NOTIFY {self._channel}")

    def seconds_until_rebalance(self) -> float:
        """Return the seconds until `rebalance` is due; 0 if it is due."""
        return max(0.0, self._next_rebalance - asyncio.get_running_loop().time())

    async def rebalance(self, connection: Connection, things: Sequence[int]) -> None:
        """Lock free shards up to the fair share of `things`; unlock the excess and unlisted shards.

        `things` are numbers below 2^31.
        """
        now = asyncio.get_running_loop().time()
        self._next_rebalance = now + SHARED_SECONDS
        members = await connection.fetchval(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' "
            "AND classid = $1::bigint::oid AND objid = 4294967295::oid AND granted "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            self._class,
        )
        fair = -(-len(things) // max(1, members))
        retained = sorted(self.held.intersection(things))[:fair]
        for thing in sorted(self.held.difference(retained)):
            await connection.execute("SELECT pg_advisory_unlock($1, $2)", self._class, thing)
            self.held.discard(thing)
        for thing in things:
            if len(self.held) >= fair:
                break
            if thing not in self.held and await connection.fetchval(
                "SELECT pg_try_advisory_lock($1, $2)", self._class, thing
            ):
                self.held.add(thing)
        if members == 1 and len(self.held) == len(things) and self._next_rebalance:
            self._next_rebalance = now + FALLBACK_SECONDS
