"""Pool of session advisory locks that divides numbered shards fairly among processes.

The locks belong to one connection and are released with it. Work under a lock must run on that
connection, or be idempotent, so that another process can repeat it.
"""

import zlib
from collections.abc import Sequence

from libs.common.db.connection import Connection


class AdvisoryLockPool:
    """The shards that this process has locked, up to its fair share."""

    def __init__(self, name: str) -> None:
        self._class = zlib.crc32(name.encode()) & 0x7FFFFFFF
        self.held: set[int] = set()

    async def register(self, connection: Connection) -> None:
        """Register the process as a member of the pool while the connection is open."""
        self.held.clear()
        await connection.execute("SELECT pg_advisory_lock_shared($1, -1)", self._class)

    async def rebalance(self, connection: Connection, things: Sequence[int]) -> None:
        """Lock free shards up to the fair share of `things`; unlock the excess and unlisted shards.

        `things` are numbers below 2^31.
        """
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
                return
            if thing not in self.held and await connection.fetchval(
                "SELECT pg_try_advisory_lock($1, $2)", self._class, thing
            ):
                self.held.add(thing)
