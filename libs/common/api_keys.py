"""API keys: kinds, scopes, and the workspace of each.

A write key belongs to a source and authorizes tracking only (`services.ingest`). Service keys read;
admin keys change. Each key belongs to one workspace. Instance-wide scopes (cycles, queues, dead
letters) are reserved for admin keys of `default`, the operator's workspace. The key in
`PERIGEE_ADMIN_KEY` has every scope, in any workspace that the header `Perigee-Workspace` names.
"""

from hashlib import sha256
from typing import Literal, Protocol

import msgspec

from libs.common.errors import ConfigurationError
from libs.common.ids import WorkspaceId

KeyKind = Literal["service", "admin"]
DEFAULT_WORKSPACE = WorkspaceId("default")
WORKSPACE_HEADER = "perigee-workspace"
KEY_PREFIXES: dict[KeyKind, str] = {"service": "sk_", "admin": "ak_"}
READ_SCOPES = ("contacts:read", "stage_changes:read")
"""All scopes of a service key."""
WORKSPACE_SCOPES = (
    *READ_SCOPES,
    "sources",
    "imports",
    "identities",
    "corrections",
    "subscriptions",
    "plays",
    "events",
)
"""All scopes of an admin key outside the default workspace."""
INSTANCE_SCOPES = ("cycles", "dlq", "live", "refolds", "operations", "access")
"""Additional scopes of an admin key of the default workspace.

`operations`: outbox quarantine, unfinished work, replay check. `access`: workspaces and keys; a key
with it can make a key with every other scope of its workspace.
"""


class Caller(msgspec.Struct, frozen=True):
    """Authenticated sender of a request: workspace and scopes."""

    workspace: WorkspaceId
    scopes: frozenset[str]

    def has_scope(self, scope: str) -> bool:
        """Return whether the caller has a scope."""
        return scope in self.scopes


class KeyStore(Protocol):
    """Lookup of API keys."""

    async def authenticate(self, key: str, workspace: WorkspaceId | None) -> Caller | None:
        """Return the caller of a key.

        None for a key that is unknown, expired, or of another workspace than `workspace`. Raises
        NotFound for a workspace that does not exist, and Unavailable.
        """
        ...


def resolve_scopes(
    kind: KeyKind, workspace: WorkspaceId, requested: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """Return the scopes of a new key: those requested, else all that its kind may have.

    Raises ConfigurationError for a scope that the kind may not have.
    """
    allowed = READ_SCOPES if kind == "service" else WORKSPACE_SCOPES
    if kind == "admin" and workspace == DEFAULT_WORKSPACE:
        allowed = (*allowed, *INSTANCE_SCOPES)
    for scope in requested:
        if scope not in allowed:
            raise ConfigurationError(
                f"no scope {scope!r} for {kind} keys of {workspace}: expected {', '.join(allowed)}"
            )
    return requested or allowed


def hash_key(key: str) -> bytes:
    """Return the stored hash of a key: SHA-256, since keys are random and need no slow hash."""
    return sha256(key.encode("utf-8", "replace")).digest()
