"""`/v1/next`: content recommended for a contact; `/admin/v1/coverage`: gaps in the content."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query

from libs.common.api_keys import Caller
from libs.common.http.authentication import require_scope
from services.orchestrator.handlers.recommendations import RecommendationService

Reader = Annotated[Caller, require_scope("contacts:read")]
PlayEditor = Annotated[Caller, require_scope("plays")]
ChannelParameter = Annotated[str, Query(min_length=1, max_length=40)]


def reader_router(service: RecommendationService) -> APIRouter:
    """Return the route of clients that show content."""
    routes = APIRouter(tags=["content"])

    @routes.get("/next")
    async def recommend(
        caller: Reader,
        who: Annotated[
            str, Query(min_length=1, max_length=300, description="contact id, identifier or e-mail")
        ],
        channel: ChannelParameter = "onsite",
        types: Annotated[tuple[str, ...], Query(max_length=50, alias="type")] = (),
        fallback: Annotated[str | None, Query(max_length=60)] = None,
        show: Annotated[
            bool,
            Query(description="record that it is shown now, so that it is not recommended again"),
        ] = False,
    ) -> dict[str, Any]:
        """Return the content for a contact on a channel, or the fallback, with the reasons."""
        body: dict[str, Any] = msgspec.to_builtins(
            await service.recommend(caller.workspace, who, channel, types, fallback, show=show)
        )
        return body

    return routes


def admin_router(service: RecommendationService) -> APIRouter:
    """Return the route of content editors."""
    routes = APIRouter(tags=["content"])

    @routes.get("/coverage")
    async def get_coverage(
        caller: PlayEditor, cycle: Annotated[str, Query(max_length=60)] = "engagement"
    ) -> dict[str, Any]:
        """Return the cells of stage, level and channel, and the questions; gaps come first."""
        body: dict[str, Any] = msgspec.to_builtins(await service.coverage(caller.workspace, cycle))
        return body

    return routes
