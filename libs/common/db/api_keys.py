"""Workspaces and keys in the database. A key is looked up by its hash at each request: what is taken back ends at once."""

import hmac
import secrets
from datetime import datetime

import msgspec

from libs.common.api_keys import (
    DEFAULT_WORKSPACE,
    INSTANCE_SCOPES,
    KEY_PREFIXES,
    READ_SCOPES,
    WORKSPACE_SCOPES,
    Caller,
    KeyKind,
    hash_key,
    resolve_scopes,
)
from libs.common.db.connection import Connection, Session
from libs.common.errors import ConfigurationError, Conflict, NotFound

_HINT = 8
_NAME = 60


class ApiKey(msgspec.Struct, frozen=True):
    """A key as it may be shown: its first characters tell it from others."""

    hint: str
    name: str
    kind: KeyKind
    scopes: list[str]
    created_at: datetime
    ends_at: datetime | None
    last_used_at: datetime | None


class DatabaseKeyStore:
    """The keyring of a service: those of its environment, and those in the database."""

    def __init__(self, session: Session, admin_key: str, service_key: str = "") -> None:
        self._session = session
        everything = frozenset((*WORKSPACE_SCOPES, *INSTANCE_SCOPES))
        given = ((admin_key, everything), (service_key, frozenset(READ_SCOPES)))
        self._given = [(hash_key(key), scopes) for key, scopes in given if key]
        self._admin = hash_key(admin_key) if admin_key else b""

    async def authenticate(self, key: str, workspace: str | None) -> Caller | None:
        """Return who brings a key, as `Keyring` says."""
        offered = hash_key(key)
        matches = [scopes for known, scopes in self._given if hmac.compare_digest(offered, known)]
        if matches:
            return await self._of_environment(offered, matches[0], workspace)
        if not key.startswith(tuple(KEY_PREFIXES.values())):
            return None
        async with self._session.acquire() as connection:
            row = await connection.fetchrow(
                "SELECT workspace, scopes, coalesce(last_used_at, '-infinity') < now() - interval '1 minute' AS stale "
                "FROM access.keys WHERE key_hash = $1 AND coalesce(ends_at, 'infinity') > now()",
                offered,
            )
            if row is not None and row["stale"]:
                await connection.execute(
                    "UPDATE access.keys SET last_used_at = now() WHERE key_hash = $1", offered
                )
        if row is None or workspace not in (None, row["workspace"]):
            return None
        return Caller(row["workspace"], frozenset(row["scopes"]))

    async def _of_environment(
        self, offered: bytes, scopes: frozenset[str], workspace: str | None
    ) -> Caller | None:
        if workspace in (None, DEFAULT_WORKSPACE):
            return Caller(DEFAULT_WORKSPACE, scopes)
        if offered != self._admin:
            return None
        async with self._session.acquire() as connection:
            if not await workspace_exists(connection, workspace):
                raise NotFound(
                    f"no workspace {workspace!r:.80}: 'perigee workspace create' makes one"
                )
        return Caller(workspace, scopes)


async def workspace_exists(connection: Connection, workspace: str) -> bool:
    """Return whether there is a workspace of the name."""
    return bool(
        await connection.fetchval(
            "SELECT true FROM access.workspaces WHERE workspace = $1", workspace
        )
    )


async def list_workspaces(connection: Connection) -> list[str]:
    """Return the workspaces by name."""
    return [
        r[0] for r in await connection.fetch("SELECT workspace FROM access.workspaces ORDER BY 1")
    ]


async def insert_workspace(connection: Connection, workspace: str) -> None:
    """Make a workspace. Raises Conflict when there is one of the name, ConfigurationError for a bad name."""
    if (
        not workspace.isascii()
        or not workspace.replace("-", "").replace("_", "").isalnum()
        or len(workspace) > _NAME
    ):
        raise ConfigurationError(
            f"{workspace!r:.80}: a workspace's name has 1 to {_NAME} letters, digits, - and _"
        )
    if not await connection.fetchval(
        "INSERT INTO access.workspaces (workspace) VALUES ($1) ON CONFLICT DO NOTHING RETURNING true",
        workspace,
    ):
        raise Conflict(f"there is a workspace {workspace} already")


async def insert_key(
    connection: Connection, workspace: str, name: str, kind: KeyKind, wanted: tuple[str, ...] = ()
) -> str:
    """Make a key and return it, this once: only its hash is stored. Raises NotFound, ConfigurationError."""
    if not 0 < len(name) <= _NAME or not name.isprintable():
        raise ConfigurationError(f"{name!r:.80}: a key's name has 1 to {_NAME} characters")
    if not await workspace_exists(connection, workspace):
        raise NotFound(f"no workspace {workspace!r:.80}: 'perigee workspace create' makes one")
    key = KEY_PREFIXES[kind] + secrets.token_urlsafe(32)
    await connection.execute(
        "INSERT INTO access.keys (key_hash, workspace, name, kind, scopes, hint) VALUES ($1, $2, $3, $4, $5, $6)",
        hash_key(key), workspace, name, kind, list(resolve_scopes(kind, workspace, wanted)), key[:_HINT],
    )  # fmt: skip
    return key


async def list_keys(connection: Connection, workspace: str) -> list[ApiKey]:
    """Return a workspace's keys that hold, newest first."""
    rows = await connection.fetch(
        "SELECT hint, name, kind, scopes, created_at, ends_at, last_used_at FROM access.keys "
        "WHERE workspace = $1 AND coalesce(ends_at, 'infinity') > now() ORDER BY created_at DESC, name",
        workspace,
    )
    return [ApiKey(*r) for r in rows]


async def insert_rotated_key(
    connection: Connection, workspace: str, name: str, overlap: float
) -> str:
    """Give a name a new key like its newest; the old ones hold for `overlap` more seconds. Raises NotFound."""
    found = [key for key in await list_keys(connection, workspace) if key.name == name]
    if not found:
        raise NotFound(f"workspace {workspace} has no key named {name!r:.80} that holds")
    if len({key.kind for key in found}) > 1:
        raise Conflict(
            f"{name!r:.80} names keys of both kinds: revoke one kind by its first characters, then rotate"
        )
    await update_key_ends(connection, workspace, name, overlap)
    return await insert_key(connection, workspace, name, found[0].kind, tuple(found[0].scopes))


async def update_key_ends(
    connection: Connection, workspace: str, name: str, seconds: float, hint: str = ""
) -> int:
    """Let a name's keys end after so many seconds, those that begin with `hint`; return how many."""
    rows = await connection.fetch(
        "UPDATE access.keys SET ends_at = least(ends_at, now() + make_interval(secs => $3)) "
        "WHERE (workspace, name) = ($1, $2) AND starts_with(hint, $4) AND coalesce(ends_at, 'infinity') > now() RETURNING 1",
        workspace,
        name,
        seconds,
        hint,
    )
    return len(rows)
