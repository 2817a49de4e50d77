"""Who works on what: each thing has a session advisory lock, and a process keeps the locks of its fair share.

The locks are those of one connection, and go with it. Whatever a holder does under them it does on that connection, or in a way
that another holder's doing it once more does not hurt.
"""

import zlib
from collections.abc import Sequence

from libs.common.db.connection import Connection


class AdvisoryLockPool:
    """One process's share of numbered things."""

    def __init__(self, name: str) -> None:
        self._class = zlib.crc32(name.encode()) & 0x7FFFFFFF
        self.held: set[int] = set()

    async def register(self, connection: Connection) -> None:
        """Count as one of those who share, as long as the connection lives."""
        self.held.clear()
        await connection.execute("SELECT pg_advisory_lock_shared($1, -1)", self._class)

    async def rebalance(self, connection: Connection, things: Sequence[int]) -> None:
        """Take what is free up to the fair share of `things` (numbers below 2^31), and give up what exceeds it or is gone."""
        members = await connection.fetchval(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = $1::bigint::oid "
            "AND objid = 4294967295::oid AND granted AND database = (SELECT oid FROM pg_database "
            "WHERE datname = current_database())",
            self._class,
        )
        fair = -(-len(things) // max(1, members))
        kept = sorted(self.held.intersection(things))[:fair]
        for thing in sorted(self.held.difference(kept)):
            await connection.execute("SELECT pg_advisory_unlock($1, $2)", self._class, thing)
            self.held.discard(thing)
        for thing in things:
            if len(self.held) >= fair:
                return
            if thing not in self.held and await connection.fetchval(
                "SELECT pg_try_advisory_lock($1, $2)", self._class, thing
            ):
                self.held.add(thing)
