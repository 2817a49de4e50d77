"""Workspaces and API keys in the database.

A key is looked up by its hash at each request, so a revocation is effective at once.
"""

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
from libs.common.ids import WorkspaceId

_HINT_LENGTH = 8
_MAX_NAME_LENGTH = 60


class ApiKey(msgspec.Struct, frozen=True):
    """API key without its secret; `hint` are its first characters."""

    hint: str
    name: str
    kind: KeyKind
    scopes: list[str]
    created_at: datetime
    ends_at: datetime | None
    last_used_at: datetime | None


class DatabaseKeyStore:
    """Key store of a service: the keys of its environment, and those in the database."""

    def __init__(self, session: Session, admin_key: str, service_key: str = "") -> None:
        self._session = session
        all_scopes = frozenset((*WORKSPACE_SCOPES, *INSTANCE_SCOPES))
        environment_keys = ((admin_key, all_scopes), (service_key, frozenset(READ_SCOPES)))
        self._environment_keys = [
            (hash_key(key), scopes) for key, scopes in environment_keys if key
        ]
        self._admin_hash = hash_key(admin_key) if admin_key else b""

    async def authenticate(self, key: str, workspace: WorkspaceId | None) -> Caller | None:
        """Return the caller of a key; see `KeyStore`."""
        key_hash = hash_key(key)
        matches = [
            scopes
            for environment_hash, scopes in self._environment_keys
            if hmac.compare_digest(key_hash, environment_hash)
        ]
        if matches:
            return await self._environment_caller(key_hash, matches[0], workspace)
        if not key.startswith(tuple(KEY_PREFIXES.values())):
            return None
        async with self._session.acquire() as connection:
            row = await connection.fetchrow(
                "SELECT workspace, scopes, "
                "coalesce(last_used_at, '-infinity') < now() - interval '1 minute' AS stale "
                "FROM access.keys WHERE key_hash = $1 AND coalesce(ends_at, 'infinity') > now()",
                key_hash,
            )
            if row is not None and row["stale"]:
                await connection.execute(
                    "UPDATE access.keys SET last_used_at = now() WHERE key_hash = $1", key_hash
                )
        if row is None or workspace not in (None, row["workspace"]):
            return None
        return Caller(row["workspace"], frozenset(row["scopes"]))

    async def _environment_caller(
        self, key_hash: bytes, scopes: frozenset[str], workspace: WorkspaceId | None
    ) -> Caller | None:
        if workspace in (None, DEFAULT_WORKSPACE):
            return Caller(DEFAULT_WORKSPACE, scopes)
        if key_hash != self._admin_hash:
            return None
        async with self._session.acquire() as connection:
            if not await workspace_exists(connection, workspace):
                raise NotFound(
                    f"no workspace {workspace!r:.80}: 'perigee workspace create' makes one"
                )
        return Caller(workspace, scopes)


async def workspace_exists(connection: Connection, workspace: WorkspaceId) -> bool:
    """Return whether the workspace exists."""
    return bool(
        await connection.fetchval(
            "SELECT true FROM access.workspaces WHERE workspace = $1", workspace
        )
    )


async def list_workspaces(connection: Connection) -> list[str]:
    """Return the names of all workspaces, sorted."""
    return [
        r[0] for r in await connection.fetch("SELECT workspace FROM access.workspaces ORDER BY 1")
    ]


async def insert_workspace(connection: Connection, workspace: WorkspaceId) -> None:
    """Insert a workspace. Raises Conflict if it exists, ConfigurationError for a bad name."""
    if (
        not workspace.isascii()
        or not workspace.replace("-", "").replace("_", "").isalnum()
        or len(workspace) > _MAX_NAME_LENGTH
    ):
        raise ConfigurationError(
            f"{workspace!r:.80}: a workspace's name has 1 to {_MAX_NAME_LENGTH} letters, digits, "
            "- and _"
        )
    if not await connection.fetchval(
        "INSERT INTO access.workspaces (workspace) VALUES ($1) "
        "ON CONFLICT DO NOTHING RETURNING true",
        workspace,
    ):
        raise Conflict(f"workspace {workspace} exists already")


async def insert_key(
    connection: Connection,
    workspace: WorkspaceId,
    name: str,
    kind: KeyKind,
    requested_scopes: tuple[str, ...] = (),
) -> str:
    """Insert a new key and return it; only its hash is stored.

    Raises NotFound for an unknown workspace, ConfigurationError for an invalid name or scope.
    """
    if not 0 < len(name) <= _MAX_NAME_LENGTH or not name.isprintable():
        raise ConfigurationError(
            f"{name!r:.80}: a key's name has 1 to {_MAX_NAME_LENGTH} characters"
        )
    if not await workspace_exists(connection, workspace):
        raise NotFound(f"no workspace {workspace!r:.80}: 'perigee workspace create' makes one")
    key = KEY_PREFIXES[kind] + secrets.token_urlsafe(32)
    await connection.execute(
        "INSERT INTO access.keys (key_hash, workspace, name, kind, scopes, hint) "
        "VALUES ($1, $2, $3, $4, $5, $6)",
        hash_key(key),
        workspace,
        name,
        kind,
        list(resolve_scopes(kind, workspace, requested_scopes)),
        key[:_HINT_LENGTH],
    )
    return key


async def list_keys(connection: Connection, workspace: WorkspaceId) -> list[ApiKey]:
    """Return a workspace's valid keys, newest first."""
    rows = await connection.fetch(
        "SELECT hint, name, kind, scopes, created_at, ends_at, last_used_at FROM access.keys "
        "WHERE workspace = $1 AND coalesce(ends_at, 'infinity') > now() "
        "ORDER BY created_at DESC, name",
        workspace,
    )
    return [ApiKey(*r) for r in rows]


async def insert_rotated_key(
    connection: Connection, workspace: WorkspaceId, name: str, overlap: float
) -> str:
    """Insert a new key like the newest of a name and return it.

    The old keys stay valid for `overlap` seconds. Raises NotFound, and Conflict for a name with
    keys of both kinds.
    """
    named_keys = [key for key in await list_keys(connection, workspace) if key.name == name]
    if not named_keys:
        raise NotFound(f"workspace {workspace} has no valid key named {name!r:.80}")
    if len({key.kind for key in named_keys}) > 1:
        raise Conflict(
            f"{name!r:.80} names keys of both kinds: revoke one kind by its first characters, "
            "then rotate"
        )
    await update_key_ends(connection, workspace, name, overlap)
    newest = named_keys[0]
    return await insert_key(connection, workspace, name, newest.kind, tuple(newest.scopes))


async def update_key_ends(
    connection: Connection, workspace: WorkspaceId, name: str, seconds: float, hint: str = ""
) -> int:
    """Expire a name's keys that begin with `hint` in `seconds`; return their number."""
    rows = await connection.fetch(
        "UPDATE access.keys SET ends_at = least(ends_at, now() + make_interval(secs => $3)) "
        "WHERE (workspace, name) = ($1, $2) AND starts_with(hint, $4) "
        "AND coalesce(ends_at, 'infinity') > now() RETURNING 1",
        workspace,
        name,
        seconds,
        hint,
    )
    return len(rows)
