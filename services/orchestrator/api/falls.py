"""`/admin/v1/audiences`: who fell from a stage without having reached another."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from libs.common.api_keys import Caller
from libs.common.http.authentication import require_scope
from services.orchestrator.handlers.falls import Falls

Keeper = Annotated[Caller, require_scope("plays")]
Cycle = Annotated[str, Query(max_length=60)]


def router(falls: Falls) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["audiences"])

    @routes.get("/audiences")
    async def every(caller: Keeper, cycle: Cycle = "engagement") -> list[dict[str, Any]]:
        """Return every pair of stages with its contacts, now, those with most first."""
        return [msgspec.to_builtins(pair) for pair in await falls.pairs(caller.workspace, cycle)]

    @routes.get("/audiences/{fell_from}/{never_reached}", response_class=StreamingResponse)
    async def export(
        caller: Keeper, fell_from: str, never_reached: str, cycle: Cycle = "engagement"
    ) -> StreamingResponse:
        """Return an audience as CSV: those who allow marketing, their addresses as SHA-256."""
        pair = (fell_from, never_reached)
        await falls.check(cycle, pair)
        return StreamingResponse(falls.export(caller.workspace, cycle, pair), media_type="text/csv")

    return routes
