"""`/admin/v1/segments`: who is in which watched segment, since when, and who is to take care."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query

from libs.common.api_keys import Caller
from libs.common.http.authentication import require_scope
from services.orchestrator.handlers.segment_membership import SegmentService

PlayEditor = Annotated[Caller, require_scope("plays")]


def router(desk: SegmentService) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["segments"])

    @routes.get("/segments")
    async def sizes(caller: PlayEditor) -> list[dict[str, Any]]:
        """Return the watched segments, and how many are in each."""
        return [msgspec.to_builtins(one) for one in await desk.list_sizes(caller.workspace)]

    @routes.get("/segments/{name}/members")
    async def members(
        caller: PlayEditor, name: str, limit: Annotated[int, Query(ge=1, le=1_000)] = 100
    ) -> list[dict[str, Any]]:
        """Return who is in a watched segment, who has waited longest first."""
        return [
            msgspec.to_builtins(one)
            for one in await desk.list_members(caller.workspace, name, limit)
        ]

    return routes
