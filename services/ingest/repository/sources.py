"""The sources and their write keys. The door holds them in memory, so that it stays open while PostgreSQL is away."""

import asyncio
from datetime import datetime
from hashlib import sha256
from typing import Any

import msgspec

from libs.common.db.connection import Connection, Session
from libs.common.db.notifications import notify
from libs.common.errors import Conflict, Unavailable
from libs.common.observability import logs
from libs.common.service_runner import wait_for_any
from services.ingest.domain.source import Source

log = logs.get_logger(__name__)
SOURCES_CHANNEL = "ingest_sources"
"""Notified of each change of a source or a write key."""
_RETRY_SECONDS = 1.0
_LEAST_WAIT = 0.1
_FIELDS = (
    "trust", "mode", "user_hash_secret", "allowed_origins", "per_second", "defaults",
    "adapter", "signing_secret", "adapter_settings",
)  # fmt: skip
_COLUMNS = ", ".join(f"s.{name}" for name in ("workspace", "source", *_FIELDS))
_HOLDS = "(k.ends_at IS NULL OR k.ends_at > now())"


class WriteKey(msgspec.Struct, frozen=True):
    """A write key as it is known: its hash is stored, its first characters tell it from others."""

    hint: str
    created_at: datetime
    ends_at: datetime | None
    last_used_at: datetime | None
    """To the minute."""


async def upsert_source(connection: Connection, source: Source) -> bool:
    """Make a source, or change one to this; return whether it is new."""
    await notify(connection, SOURCES_CHANNEL)
    return bool(
        await connection.fetchval(
            f"INSERT INTO ingest.sources (workspace, source, {', '.join(_FIELDS)}) "
            "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (workspace, source) DO UPDATE SET "
            f"{', '.join(f'{name} = excluded.{name}' for name in _FIELDS)} RETURNING xmax = 0",
            source.workspace,
            source.name,
            source.trust,
            source.mode,
            source.user_hash_secret,
            list(source.allowed_origins),
            source.per_second,
            msgspec.json.encode(source.defaults).decode(),
            source.adapter,
            source.signing_secret,
            msgspec.json.encode(source.adapter_settings).decode(),
        )
    )


async def insert_key(connection: Connection, place: tuple[str, str], write_key: str) -> bool:
    """Give a source one more key; return whether it is new. Raises Conflict for one taken back, or another source's."""
    added = await connection.fetchval(
        "INSERT INTO ingest.write_keys (key_hash, workspace, source, hint) VALUES ($1, $2, $3, $4) "
        "ON CONFLICT (key_hash) DO NOTHING RETURNING true",
        _hash(write_key), *place, write_key[:6],
    )  # fmt: skip
    if added:
        await notify(connection, SOURCES_CHANNEL)
        return True
    owner = await connection.fetchrow(
        f"SELECT workspace, source, {_HOLDS} FROM ingest.write_keys k WHERE key_hash = $1",
        _hash(write_key),
    )
    if owner is None or (owner[0], owner[1]) != place:
        raise Conflict(
            f"the write key {write_key[:6]}… is another source's: give {place[1]} one of its own"
        )
    if not owner[2]:
        raise Conflict(
            f"the write key {write_key[:6]}… of {place[1]} was taken back: give it another"
        )
    return False


async def update_key_ends(
    connection: Connection, place: tuple[str, str], seconds: float, *, hint: str = "", but: str = ""
) -> int:
    """Let keys of a source end after so many seconds: those of the hint, or all; `but` not this one. Return how many.

    A hint is how a key begins, or a key itself.
    """
    rows = await connection.fetch(
        "UPDATE ingest.write_keys k SET ends_at = least(ends_at, now() + make_interval(secs => $3)) "
        "WHERE (workspace, source) = ($1, $2) AND (starts_with(hint, $4) OR key_hash = $6) "
        f"AND key_hash <> $5 AND {_HOLDS} RETURNING 1",
        *place, seconds, hint, _hash(but), _hash(hint),
    )  # fmt: skip
    await notify(connection, SOURCES_CHANNEL)
    return len(rows)


async def list_keys(connection: Connection, place: tuple[str, str]) -> list[WriteKey]:
    """Return the keys of a source that hold, newest first."""
    rows = await connection.fetch(
        "SELECT hint, created_at, ends_at, last_used_at FROM ingest.write_keys k "
        f"WHERE (workspace, source) = ($1, $2) AND {_HOLDS} ORDER BY created_at DESC",
        *place,
    )
    return [WriteKey(*r) for r in rows]


async def get_source_for_update(connection: Connection, place: tuple[str, str]) -> Source | None:
    """Return a source, held until the transaction ends."""
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM ingest.sources s WHERE (workspace, source) = ($1, $2) FOR UPDATE",
        *place,
    )
    return _source(row) if row else None


async def list_sources(connection: Connection, workspace: str | None = None) -> list[Source]:
    """Return the sources of a workspace, or of all, by name."""
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM ingest.sources s WHERE $1::text IS NULL OR workspace = $1 ORDER BY source",
        workspace,
    )
    return [_source(r) for r in rows]


def _source(row: Any) -> Source:
    (
        workspace,
        name,
        trust,
        mode,
        secret,
        origins,
        per_second,
        defaults,
        adapter,
        signing,
        settings,
    ) = row
    read = msgspec.json.decode
    return Source(
        workspace,
        name,
        trust,
        mode,
        secret,
        tuple(origins),
        per_second,
        read(defaults),
        adapter,
        signing,
        read(settings),
    )


def _hash(write_key: str) -> bytes:
    """Return what is stored of a key. Keys are random, so SHA-256 is as good as a slow hash."""
    return sha256(write_key.encode("utf-8", "replace")).digest()


class SourceCache:
    """Write key → source."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._by_hash: dict[bytes, Source] | None = None
        self._by_key: dict[str, Source] = {}
        self._used: set[str] = set()

    @property
    def is_loaded(self) -> bool:
        """Return whether the sources were read at least once."""
        return self._by_hash is not None

    def find(self, write_key: str) -> Source | None:
        """Return the source of a write key, or None."""
        found = self._by_key.get(write_key)
        if found is None and self._by_hash is not None:
            found = self._by_hash.get(_hash(write_key))
            if found is not None:
                self._by_key[write_key] = found
        if found is not None:
            self._used.add(write_key)
        return found

    async def refresh(self) -> float | None:
        """Read all sources; return the seconds until the first write key ends, or None.

        Raises Unavailable when PostgreSQL does not answer; the cache then keeps its content.
        """
        async with self._session.acquire() as connection:
            rows = await connection.fetch(
                f"SELECT extract(epoch FROM k.ends_at - now())::float, k.key_hash, {_COLUMNS} "
                "FROM ingest.sources s JOIN ingest.write_keys k USING (workspace, source) "
                f"WHERE {_HOLDS}"
            )
            await self._note_used(connection)
        self._by_hash = {r[1]: _source(r[2:]) for r in rows}
        self._by_key = {}
        return min((r[0] for r in rows if r[0] is not None), default=None)

    async def _note_used(self, connection: Connection) -> None:
        """Note which keys were used since the last time."""
        used, self._used = self._used, set()
        if used:
            await connection.execute(
                "UPDATE ingest.write_keys SET last_used_at = now() WHERE key_hash = ANY($1::bytea[]) "
                "AND coalesce(last_used_at, '-infinity') < now() - interval '1 minute'",
                [_hash(key) for key in used],
            )

    async def refresh_periodically(
        self, stop: asyncio.Event, wake: asyncio.Event, seconds: float
    ) -> None:
        """Refresh when `wake` is set, when a write key ends and every `seconds`, until `stop`."""
        while not stop.is_set():
            wake.clear()
            wait = seconds
            try:
                ends_in = await self.refresh()
                if ends_in is not None:
                    wait = min(seconds, max(_LEAST_WAIT, ends_in))
            except Unavailable as error:
                log.warning("sources_not_refreshed", error=str(error), loaded=self.is_loaded)
                wait = min(seconds, _RETRY_SECONDS)
            await wait_for_any(stop, wake, seconds=wait)
