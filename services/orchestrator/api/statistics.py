"""`/admin/v1/orchestrator/statistics`: figures of a workspace."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter

from libs.common.api_keys import Caller
from libs.common.http.authentication import require_scope
from services.orchestrator.handlers.statistics import PlayStatisticsService

PlayEditor = Annotated[Caller, require_scope("plays")]


def router(statistics: PlayStatisticsService) -> APIRouter:
    """Return the route."""
    routes = APIRouter(tags=["statistics"])

    @routes.get("/orchestrator/statistics")
    async def figures(caller: PlayEditor) -> dict[str, Any]:
        """Return enrollments by play, actions by status and deliveries by outcome.

        Reads every action of the workspace: seconds for each million.
        """
        document: dict[str, Any] = msgspec.to_builtins(
            await statistics.get_statistics(caller.workspace)
        )
        return document

    return routes
