"""The sources, held in memory so that the door stays open while PostgreSQL is away."""

import asyncio
from hashlib import sha256

from libs.common.db.connection import Connection, Session
from libs.common.errors import Unavailable
from libs.common.observability import logs
from services.ingest.domain.source import Source

log = logs.get(__name__)


async def put(connection: Connection, source: str, write_key: str) -> None:
    """Make a source of the default workspace, or give it another key; only the key's SHA-256 is stored."""
    await connection.execute(
        "INSERT INTO ingest.sources (workspace, source, key_hash) VALUES ('default', $1, $2) "
        "ON CONFLICT (workspace, source) DO UPDATE SET key_hash = excluded.key_hash",
        source,
        sha256(write_key.encode()).digest(),
    )


async def change(connection: Connection, source: str, *, trust: str | None = None, mode: str | None = None) -> None:
    """Change what a source's key may do, where something is given."""
    await connection.execute(
        "UPDATE ingest.sources SET trust = coalesce($2, trust), mode = coalesce($3, mode) "
        "WHERE workspace = 'default' AND source = $1",
        source,
        trust,
        mode,
    )


async def demand_user_hash(connection: Connection, source: str, secret: str | None) -> None:
    """Demand that a source proves user ids under a secret; None: demand nothing."""
    await connection.execute(
        "UPDATE ingest.sources SET user_hash_secret = $2 WHERE workspace = 'default' AND source = $1", source, secret
    )


async def every(connection: Connection) -> list[Source]:
    """Return the sources of every workspace, by name."""
    rows = await connection.fetch(
        "SELECT workspace, source, trust, mode, user_hash_secret FROM ingest.sources ORDER BY source"
    )
    return [Source(*row) for row in rows]


class Sources:
    """Write key → source. Keys are random, so their SHA-256 is as good as a slow hash."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._by_hash: dict[bytes, Source] | None = None
        self._by_key: dict[str, Source] = {}

    @property
    def loaded(self) -> bool:
        """Return whether the sources were read at least once."""
        return self._by_hash is not None

    def find(self, write_key: str) -> Source | None:
        """Return the source of a write key, or None."""
        found = self._by_key.get(write_key)
        if found is None and self._by_hash is not None:
            found = self._by_hash.get(sha256(write_key.encode("utf-8", "replace")).digest())
            if found is not None:
                self._by_key[write_key] = found
        return found

    async def load(self) -> None:
        """Read all sources. Raises Unavailable when PostgreSQL does not answer; what was read before stays."""
        async with self._session.use() as connection:
            rows = await connection.fetch(
                "SELECT key_hash, workspace, source, trust, mode, user_hash_secret FROM ingest.sources"
            )
        self._by_hash = {r[0]: Source(r[1], r[2], r[3], r[4], r[5]) for r in rows}
        self._by_key = {}

    async def keep_fresh(self, stop: asyncio.Event, seconds: float) -> None:
        """Load again every `seconds` until told to stop."""
        while not stop.is_set():
            try:
                await self.load()
            except Unavailable as error:
                log.warning("sources_not_refreshed", error=str(error), loaded=self.loaded)
            try:
                await asyncio.wait_for(stop.wait(), seconds)
            except TimeoutError:
                continue
