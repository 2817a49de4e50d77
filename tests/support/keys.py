"""Keys for doors that are tested without their database: who they belong to, and the gate in front."""

from starlette.types import ASGIApp

from libs.common.access import DEFAULT, OF_INSTANCE, OF_WORKSPACES, READING, Caller
from libs.common.doors import Gate

ADMIN, SERVICE = "rules", "reads"
_SCOPES = {ADMIN: frozenset((*OF_WORKSPACES, *OF_INSTANCE)), SERVICE: frozenset(READING)}


class KnownKeys:
    """A keyring of two keys: one that may do everything in any workspace, one that reads `default`."""

    async def caller(self, key: str, workspace: str | None) -> Caller | None:
        """Return who brings a key."""
        return Caller(workspace or DEFAULT, _SCOPES[key]) if key in _SCOPES else None


def gated(app: ASGIApp, files: str | None = None) -> Gate:
    """Return the application behind its gate."""
    return Gate(app, ("/admin/", "/v1/contacts", "/v1/stage-changes"), KnownKeys(), files)
