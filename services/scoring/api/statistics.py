"""`/v1/statistics`: figures of a workspace."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter

from libs.common.api_keys import Caller
from libs.common.http.authentication import require_scope
from services.scoring.handlers.statistics import ContactStatisticsService

Reader = Annotated[Caller, require_scope("contacts:read")]


def router(statistics: ContactStatisticsService) -> APIRouter:
    """Return the route."""
    routes = APIRouter(tags=["statistics"])

    @routes.get("/statistics")
    async def figures(caller: Reader) -> dict[str, Any]:
        """Return touchpoints and contacts of each source, and contacts of each position.

        Reads every touchpoint of the workspace: seconds for each million.
        """
        document: dict[str, Any] = msgspec.to_builtins(
            await statistics.get_statistics(caller.workspace)
        )
        return document

    return routes
