"""`/v1/next`: what to offer a contact now; `/admin/v1/coverage`: where nothing fits."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query

from libs.common.api_keys import Caller
from libs.common.http.authentication import require_scope
from services.orchestrator.handlers.recommendations import RecommendationService

Reader = Annotated[Caller, require_scope("contacts:read")]
PlayEditor = Annotated[Caller, require_scope("plays")]
ChannelParameter = Annotated[str, Query(min_length=1, max_length=40)]


def reader_router(catalogue: RecommendationService) -> APIRouter:
    """Return the route for those who show contents."""
    routes = APIRouter(tags=["content"])

    @routes.get("/next")
    async def following(
        caller: Reader,
        who: Annotated[
            str, Query(min_length=1, max_length=300, description="contact id, identifier or e-mail")
        ],
        channel: ChannelParameter = "onsite",
        types: Annotated[tuple[str, ...], Query(max_length=50, alias="type")] = (),
        fallback: Annotated[str | None, Query(max_length=60)] = None,
        show: Annotated[
            bool, Query(description="it is shown now, and is not offered again")
        ] = False,
    ) -> dict[str, Any]:
        """Return the content for a contact's stage and level on a channel, or the fallback, with the reasons."""
        found: dict[str, Any] = msgspec.to_builtins(
            await catalogue.recommend(caller.workspace, who, channel, types, fallback, show=show)
        )
        return found

    return routes


def admin_router(catalogue: RecommendationService) -> APIRouter:
    """Return the route for those who write contents."""
    routes = APIRouter(tags=["content"])

    @routes.get("/coverage")
    async def coverage(
        caller: PlayEditor, cycle: Annotated[str, Query(max_length=60)] = "engagement"
    ) -> dict[str, Any]:
        """Return the matrix of stage, level and channel, empty cells with most contacts first, and the open questions."""
        found: dict[str, Any] = msgspec.to_builtins(
            await catalogue.coverage(caller.workspace, cycle)
        )
        return found

    return routes
