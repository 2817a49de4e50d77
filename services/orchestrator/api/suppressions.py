"""`/admin/v1/suppressions`: removal of suppressions; `/admin/v1/why` shows them."""

from typing import Annotated

from fastapi import APIRouter

from libs.common.api_keys import Caller
from libs.common.http.authentication import require_scope
from services.orchestrator.handlers.suppressions import SuppressionService

PlayEditor = Annotated[Caller, require_scope("plays")]


def router(service: SuppressionService) -> APIRouter:
    """Return the route."""
    routes = APIRouter(tags=["suppressions"])

    @routes.delete("/suppressions/{who:path}/{channel}", status_code=204)
    async def allow(caller: PlayEditor, who: str, channel: str) -> None:
        """Allow a channel again: the contact asked for it, or has a new address."""
        await service.allow(caller.workspace, who, channel)

    return routes
