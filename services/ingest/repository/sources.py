"""Sources and their write keys.

The service keeps them in memory, so that it accepts messages while PostgreSQL is unavailable.
"""

import asyncio
from datetime import datetime
from hashlib import sha256
from typing import Any

import msgspec

from libs.common.db.connection import Connection, Session
from libs.common.db.notifications import notify
from libs.common.errors import Conflict, Unavailable
from libs.common.ids import WorkspaceId
from libs.common.observability import logs
from libs.common.service_runner import wait_for_any
from services.ingest.domain.source import Source, SourceKey

log = logs.get_logger(__name__)
SOURCES_CHANNEL = "ingest_sources"
"""Notification channel: each change of a source or a write key."""
_RETRY_SECONDS = 1.0
_MIN_WAIT_SECONDS = 0.1
_FIELDS = (
    "trust", "mode", "user_hash_secret", "allowed_origins", "per_second", "defaults",
    "adapter", "signing_secret", "adapter_settings",
)  # fmt: skip
_COLUMNS = ", ".join(f"s.{name}" for name in ("workspace", "source", *_FIELDS))
_IS_VALID = "(k.ends_at IS NULL OR k.ends_at > now())"


class WriteKey(msgspec.Struct, frozen=True):
    """A write key as stored: a hash, and the first characters (`hint`) to distinguish it."""

    hint: str
    created_at: datetime
    ends_at: datetime | None
    last_used_at: datetime | None
    """To the minute."""


async def upsert_source(connection: Connection, source: Source) -> bool:
    """Insert or replace a source; return whether it is new."""
    await notify(connection, SOURCES_CHANNEL)
    return bool(
        await connection.fetchval(
            f"INSERT INTO ingest.sources (workspace, source, {', '.join(_FIELDS)}) "
            "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) "
            "ON CONFLICT (workspace, source) DO UPDATE SET "
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


async def insert_key(connection: Connection, source_key: SourceKey, write_key: str) -> bool:
    """Add a key to a source (workspace, name); return whether it is new.

    Raises Conflict for a revoked key, or a key of another source.
    """
    added = await connection.fetchval(
        "INSERT INTO ingest.write_keys (key_hash, workspace, source, hint) VALUES ($1, $2, $3, $4) "
        "ON CONFLICT (key_hash) DO NOTHING RETURNING true",
        _hash(write_key), *source_key, write_key[:6],
    )  # fmt: skip
    if added:
        await notify(connection, SOURCES_CHANNEL)
        return True
    owner = await connection.fetchrow(
        f"SELECT workspace, source, {_IS_VALID} FROM ingest.write_keys k WHERE key_hash = $1",
        _hash(write_key),
    )
    _, name = source_key
    if owner is None or (owner[0], owner[1]) != source_key:
        raise Conflict(
            f"the write key {write_key[:6]}… belongs to another source: give {name} another key"
        )
    if not owner[2]:
        raise Conflict(f"the write key {write_key[:6]}… of {name} was revoked: give it another key")
    return False


async def update_key_ends(
    connection: Connection,
    source_key: SourceKey,
    seconds: float,
    *,
    hint: str = "",
    keep: str = "",
) -> int:
    """Let valid keys of a source end in `seconds`: those of the hint, or all but the key `keep`.

    A hint is the beginning of a key, or a complete key. Return the number of keys.
    """
    rows = await connection.fetch(
        "UPDATE ingest.write_keys k "
        "SET ends_at = least(ends_at, now() + make_interval(secs => $3)) "
        "WHERE (workspace, source) = ($1, $2) AND (starts_with(hint, $4) OR key_hash = $6) "
        f"AND key_hash <> $5 AND {_IS_VALID} RETURNING 1",
        *source_key, seconds, hint, _hash(keep), _hash(hint),
    )  # fmt: skip
    await notify(connection, SOURCES_CHANNEL)
    return len(rows)


async def list_keys(connection: Connection, source_key: SourceKey) -> list[WriteKey]:
    """Return the valid keys of a source, newest first."""
    rows = await connection.fetch(
        "SELECT hint, created_at, ends_at, last_used_at FROM ingest.write_keys k "
        f"WHERE (workspace, source) = ($1, $2) AND {_IS_VALID} ORDER BY created_at DESC",
        *source_key,
    )
    return [WriteKey(*row) for row in rows]


async def get_source_for_update(connection: Connection, source_key: SourceKey) -> Source | None:
    """Return a source (workspace, name), locked until the transaction ends."""
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM ingest.sources s WHERE (workspace, source) = ($1, $2) FOR UPDATE",
        *source_key,
    )
    return _source_from_row(row) if row else None


async def list_sources(
    connection: Connection, workspace: WorkspaceId | None = None
) -> list[Source]:
    """Return the sources of a workspace, or of all, by name."""
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM ingest.sources s "
        "WHERE $1::text IS NULL OR workspace = $1 ORDER BY source",
        workspace,
    )
    return [_source_from_row(row) for row in rows]


def _source_from_row(row: Any) -> Source:
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
    decode = msgspec.json.decode
    return Source(
        workspace,
        name,
        trust,
        mode,
        secret,
        tuple(origins),
        per_second,
        decode(defaults),
        adapter,
        signing,
        decode(settings),
    )


def _hash(write_key: str) -> bytes:
    """Return the stored hash of a key. Keys are random, so SHA-256 is as good as a slow hash."""
    return sha256(write_key.encode("utf-8", "replace")).digest()


class SourceCache:
    """In-memory map from write keys to sources, refreshed from PostgreSQL."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._by_hash: dict[bytes, Source] | None = None
        self._by_key: dict[str, Source] = {}
        self._used_keys: set[str] = set()

    @property
    def is_loaded(self) -> bool:
        """Return whether the sources were read at least once."""
        return self._by_hash is not None

    def find(self, write_key: str) -> Source | None:
        """Return the source of a write key, or None."""
        source = self._by_key.get(write_key)
        if source is None and self._by_hash is not None:
            source = self._by_hash.get(_hash(write_key))
            if source is not None:
                self._by_key[write_key] = source
        if source is not None:
            self._used_keys.add(write_key)
        return source

    async def refresh(self) -> float | None:
        """Read all sources; return the seconds until the first write key ends, or None.

        Raises Unavailable when PostgreSQL does not answer; the cache then keeps its content.
        """
        async with self._session.acquire() as connection:
            rows = await connection.fetch(
                f"SELECT extract(epoch FROM k.ends_at - now())::float, k.key_hash, {_COLUMNS} "
                "FROM ingest.sources s JOIN ingest.write_keys k USING (workspace, source) "
                f"WHERE {_IS_VALID}"
            )
            await self._update_last_used(connection)
        self._by_hash = {row[1]: _source_from_row(row[2:]) for row in rows}
        self._by_key = {}
        return min((row[0] for row in rows if row[0] is not None), default=None)

    async def _update_last_used(self, connection: Connection) -> None:
        """Store the last use of the keys that were used since the last refresh, to the minute."""
        used_keys, self._used_keys = self._used_keys, set()
        if used_keys:
            await connection.execute(
                "UPDATE ingest.write_keys SET last_used_at = now() "
                "WHERE key_hash = ANY($1::bytea[]) "
                "AND coalesce(last_used_at, '-infinity') < now() - interval '1 minute'",
                [_hash(key) for key in used_keys],
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
                    wait = min(seconds, max(_MIN_WAIT_SECONDS, ends_in))
            except Unavailable as error:
                log.warning("sources_not_refreshed", error=str(error), loaded=self.is_loaded)
                wait = min(seconds, _RETRY_SECONDS)
            await wait_for_any(stop, wake, seconds=wait)
