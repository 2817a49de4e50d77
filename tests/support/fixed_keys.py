"""Keys for doors that are tested without their database: who they belong to, and the gate in front."""

from starlette.types import ASGIApp

from libs.common.api_keys import (
    DEFAULT_WORKSPACE,
    INSTANCE_SCOPES,
    READ_SCOPES,
    WORKSPACE_SCOPES,
    Caller,
)
from libs.common.http.authentication import AuthenticationMiddleware

ADMIN, SERVICE = "rules", "reads"
_SCOPES = {ADMIN: frozenset((*WORKSPACE_SCOPES, *INSTANCE_SCOPES)), SERVICE: frozenset(READ_SCOPES)}


class FixedKeyStore:
    """A keyring of two keys: one that may do everything in any workspace, one that reads `default`."""

    async def authenticate(self, key: str, workspace: str | None) -> Caller | None:
        """Return who brings a key."""
        return Caller(workspace or DEFAULT_WORKSPACE, _SCOPES[key]) if key in _SCOPES else None


def with_authentication(app: ASGIApp, files: str | None = None) -> AuthenticationMiddleware:
    """Return the application behind its gate."""
    return AuthenticationMiddleware(
        app, ("/admin/", "/v1/contacts", "/v1/stage-changes"), FixedKeyStore(), files
    )
