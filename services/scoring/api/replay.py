"""`/admin/v1/replay-check` and `/admin/v1/cycles/backtest`: the stored history folded again."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from libs.common.http.authentication import require_scope
from services.scoring.api.cycles import CycleText
from services.scoring.handlers.replay_service import ReplayService

MAX_WAIT_SECONDS = 60


class ReplayCheckRequest(BaseModel):
    """How long to wait until scoring is idle, in seconds."""

    model_config = ConfigDict(extra="forbid")

    timeout: Annotated[float, Field(ge=0, le=MAX_WAIT_SECONDS)] = 10


def router(replays: ReplayService) -> APIRouter:
    """Return the routes."""
    routes = APIRouter()

    @routes.post("/replay-check", tags=["operations"], dependencies=[require_scope("operations")])
    async def check(given: ReplayCheckRequest) -> dict[str, Any]:
        """Fold every stored touchpoint again and compare with the stored rows, byte for byte.

        Waits until scoring is idle, and answers 409 if that takes longer than `timeout`. The answer
        takes minutes for millions of touchpoints; at most 20 differences are returned.
        """
        return await replays.check(given.timeout)

    @routes.post("/cycles/backtest", tags=["cycles"], dependencies=[require_scope("cycles")])
    async def backtest(given: CycleText) -> dict[str, Any]:
        """Fold the stored history under a specification and the live version.

        Return contacts that move. Writes nothing.

        The answer takes minutes for millions of touchpoints; 409 while another replay runs.
        """
        document: dict[str, Any] = msgspec.to_builtins(
            await replays.backtest(given.text, given.where)
        )
        return document

    return routes
