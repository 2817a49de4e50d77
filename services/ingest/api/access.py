"""`/admin/v1/workspaces` and `/admin/v1/keys`: tenants, and their service and admin keys.

Scope `access`.
"""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from libs.common.api_keys import Caller, KeyKind
from libs.common.durations import Overlap
from libs.common.http.authentication import require_scope
from libs.common.instants import DAY
from services.ingest.handlers.access import AccessService

AccessManager = Annotated[Caller, require_scope("access")]
Name = Annotated[str, Field(min_length=1, max_length=60)]


class WorkspaceCreate(BaseModel):
    """A workspace to create: 1 to 60 letters, digits, `-` and `_`."""

    model_config = ConfigDict(extra="forbid")

    name: Name


class KeyCreate(BaseModel):
    """A key to create in the caller's workspace."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    kind: KeyKind = "service"
    scopes: list[str] = Field([], max_length=50, description="all that the kind may have, if empty")


class ApiKeyRotation(BaseModel):
    """How long the old keys stay valid."""

    model_config = ConfigDict(extra="forbid")

    overlap: Overlap = DAY


def router(access: AccessService) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["access"])

    @routes.get("/workspaces")
    async def workspaces(_: AccessManager) -> list[str]:
        """Return the names of all workspaces."""
        return await access.list_workspaces()

    @routes.post("/workspaces", status_code=201)
    async def create_workspace(_: AccessManager, workspace: WorkspaceCreate) -> dict[str, str]:
        """Create a workspace; 409 when the name is taken."""
        await access.create_workspace(workspace.name)
        return {"workspace": workspace.name}

    @routes.get("/keys")
    async def keys(caller: AccessManager) -> list[dict[str, Any]]:
        """Return the valid keys of the caller's workspace, newest first.

        A key is shown by its first characters only.
        """
        return [msgspec.to_builtins(key) for key in await access.list_keys(caller.workspace)]

    @routes.post("/keys", status_code=201)
    async def create_key(caller: AccessManager, key: KeyCreate) -> dict[str, str]:
        """Create a key. `key` is in this answer and nowhere else."""
        return {"key": await access.create_key(caller.workspace, key.name, key.kind, key.scopes)}

    @routes.post("/keys/{name:path}/rotate", status_code=201)
    async def rotate(caller: AccessManager, name: Name, rotation: ApiKeyRotation) -> dict[str, str]:
        """Create a new key like the name's newest; the old ones stay valid for `overlap`."""
        overlap = rotation.overlap / 1_000_000
        return {"key": await access.rotate_key(caller.workspace, name, overlap)}

    @routes.delete("/keys/{name:path}")
    async def revoke(caller: AccessManager, name: Name, hint: str = "") -> dict[str, int]:
        """End at once the name's keys that begin with `hint`, or all; 404 when there is none."""
        return {"revoked": await access.revoke_keys(caller.workspace, name, hint)}

    return routes
