"""`/admin/v1/plays/simulate`: a play over what was published, day by day."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter
from pydantic import Field

from libs.common.api_keys import Caller
from libs.common.http.authentication import require_scope
from services.orchestrator.api.plays import PlayDocument
from services.orchestrator.handlers.play_simulations import PlaySimulationService

PlayEditor = Annotated[Caller, require_scope("plays")]
Instant = Annotated[int, Field(ge=0, lt=1 << 53, description="microseconds UTC")]
MAX_STEPS = 100_000


class SimulationRequest(PlayDocument):
    """A play as a file, and the period to run it over."""

    since: Instant
    until: Instant
    limit: int = Field(1_000, ge=0, le=MAX_STEPS, description="steps to return, the earliest first")


def router(simulations: PlaySimulationService) -> APIRouter:
    """Return the route."""
    routes = APIRouter(tags=["plays"])

    @routes.post("/plays/simulate")
    async def simulate(caller: PlayEditor, given: SimulationRequest) -> dict[str, Any]:
        """Return what a play would have done between two instants: counts by day, and the steps.

        Sends nothing.

        The answer takes minutes for many contacts; 409 while another simulation runs.
        """
        document: dict[str, Any] = msgspec.to_builtins(
            await simulations.simulate(
                caller.workspace, given.text, given.where, (given.since, given.until), given.limit
            )
        )
        return document

    return routes
