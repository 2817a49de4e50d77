"""API keys without a database, and the authentication in front of an application."""

from starlette.types import ASGIApp

from libs.common.api_keys import (
    DEFAULT_WORKSPACE,
    INSTANCE_SCOPES,
    READ_SCOPES,
    WORKSPACE_SCOPES,
    Caller,
)
from libs.common.http.authentication import AuthenticationMiddleware
from libs.common.ids import WorkspaceId

ADMIN, SERVICE = "rules", "reads"
_SCOPES = {ADMIN: frozenset((*WORKSPACE_SCOPES, *INSTANCE_SCOPES)), SERVICE: frozenset(READ_SCOPES)}


class FixedKeyStore:
    """Two keys: an admin key of any workspace, and a key that reads `default`."""

    async def authenticate(self, key: str, workspace: WorkspaceId | None) -> Caller | None:
        """Return the caller of a key."""
        return (
            Caller(WorkspaceId(workspace or DEFAULT_WORKSPACE), _SCOPES[key])
            if key in _SCOPES
            else None
        )


def with_authentication(app: ASGIApp, files: str | None = None) -> AuthenticationMiddleware:
    """Return the application behind the authentication middleware."""
    return AuthenticationMiddleware(
        app, ("/admin/", "/v1/contacts", "/v1/stage-changes"), FixedKeyStore(), files
    )
