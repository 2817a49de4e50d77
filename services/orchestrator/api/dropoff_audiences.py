"""`/admin/v1/audiences`: contacts that fell from a stage without having reached another."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from libs.common.api_keys import Caller
from libs.common.http.authentication import require_scope
from services.orchestrator.handlers.dropoff_audiences import DropoffAudienceService

PlayEditor = Annotated[Caller, require_scope("plays")]
CycleParameter = Annotated[str, Query(max_length=60)]


def router(audiences: DropoffAudienceService) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["audiences"])

    @routes.get("/audiences")
    async def list_pairs(
        caller: PlayEditor, cycle: CycleParameter = "engagement"
    ) -> list[dict[str, Any]]:
        """Return every pair of stages with its number of contacts, largest first."""
        return [
            msgspec.to_builtins(pair)
            for pair in await audiences.list_pairs(caller.workspace, cycle)
        ]

    @routes.get("/audiences/{fell_from}/{never_reached}", response_class=StreamingResponse)
    async def export(
        caller: PlayEditor, fell_from: str, never_reached: str, cycle: CycleParameter = "engagement"
    ) -> StreamingResponse:
        """Return an audience as CSV: contacts with marketing consent, addresses as SHA-256."""
        pair = (fell_from, never_reached)
        await audiences.check_stages(cycle, pair)
        return StreamingResponse(
            audiences.export_csv(caller.workspace, cycle, pair), media_type="text/csv"
        )

    return routes
