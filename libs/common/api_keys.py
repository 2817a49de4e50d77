"""Who opens which door: keys, the workspace each belongs to, and what it may do there.

A write key is a source's and opens tracking alone (`services.ingest`). Service keys read; admin keys change. Each is of one
workspace. What concerns the whole instance (its cycles, queues and dead letters) only keys of `default` may touch, the operator's
own workspace. The key in `PERIGEE_ADMIN_KEY` is the operator's: it may do everything, in whichever workspace the header
`Perigee-Workspace` names.
"""

from hashlib import sha256
from typing import Literal, Protocol

import msgspec

from libs.common.errors import ConfigurationError

KeyKind = Literal["service", "admin"]
DEFAULT_WORKSPACE = "default"
WORKSPACE_HEADER = "perigee-workspace"
KEY_PREFIXES: dict[KeyKind, str] = {"service": "sk_", "admin": "ak_"}
READ_SCOPES = ("contacts:read", "stage_changes:read")
"""What a service key may at most do."""
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
"""What a workspace's admin key may do."""
INSTANCE_SCOPES = ("cycles", "dlq", "live", "refolds")
"""What an admin key of the default workspace may do beside that."""


class Caller(msgspec.Struct, frozen=True):
    """Who makes a request: of which workspace, and with which scopes."""

    workspace: str
    scopes: frozenset[str]

    def has_scope(self, scope: str) -> bool:
        """Return whether the caller has a scope."""
        return scope in self.scopes


class KeyStore(Protocol):
    """What a door needs to tell keys apart."""

    async def authenticate(self, key: str, workspace: str | None) -> Caller | None:
        """Return who brings a key; None for a key that is unknown, over, or of another workspace than the one named.

        Raises NotFound for a workspace that does not exist, Unavailable.
        """
        ...


def resolve_scopes(kind: KeyKind, workspace: str, wanted: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the scopes of a new key: those wanted, or all that its kind may have. Raises ConfigurationError."""
    allowed = READ_SCOPES if kind == "service" else WORKSPACE_SCOPES
    if kind == "admin" and workspace == DEFAULT_WORKSPACE:
        allowed = (*allowed, *INSTANCE_SCOPES)
    for scope in wanted:
        if scope not in allowed:
            raise ConfigurationError(
                f"no scope {scope!r} for {kind} keys of {workspace}: there are {', '.join(allowed)}"
            )
    return wanted or allowed


def hash_key(key: str) -> bytes:
    """Return what is stored of a key. Keys are random, so SHA-256 is as good as a slow hash."""
    return sha256(key.encode("utf-8", "replace")).digest()
