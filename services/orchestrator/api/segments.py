"""`/admin/v1/segments`: watched segments with their members and service deadlines."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query

from libs.common.api_keys import Caller
from libs.common.http.authentication import require_scope
from services.orchestrator.handlers.segments import SegmentService

PlayEditor = Annotated[Caller, require_scope("plays")]


def router(service: SegmentService) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["segments"])

    @routes.get("/segments")
    async def list_sizes(caller: PlayEditor) -> list[dict[str, Any]]:
        """Return the watched segments with their number of members."""
        sizes = await service.list_sizes(caller.workspace)
        return [msgspec.to_builtins(size) for size in sizes]

    @routes.get("/segments/{name}/members")
    async def list_members(
        caller: PlayEditor, name: str, limit: Annotated[int, Query(ge=1, le=1_000)] = 100
    ) -> list[dict[str, Any]]:
        """Return the members of a watched segment, the longest waiting first."""
        members = await service.list_members(caller.workspace, name, limit)
        return [msgspec.to_builtins(member) for member in members]

    return routes
