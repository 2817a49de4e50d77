"""`/admin/v1/actions`: what failed, what nobody knows of, and what is to become of it."""

from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from libs.common.api_keys import Caller
from libs.common.http.authentication import require_scope
from libs.common.messages.action import ActionStatus
from services.orchestrator.handlers.action_ledger import ActionLedgerService

PlayEditor = Annotated[Caller, require_scope("plays")]


class ActionCommand(BaseModel):
    """What a person says: try it once more, it arrived, it never arrived."""

    model_config = ConfigDict(extra="forbid")

    verb: Literal["retry", "arrived", "lost"]
    author: str = Field("the API", min_length=1, max_length=100)


def router(desk: ActionLedgerService) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["actions"])

    @routes.get("/actions")
    async def every(
        caller: PlayEditor,
        status: ActionStatus = "failed",
        limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    ) -> list[dict[str, Any]]:
        """Return the actions of a status, those decided last first."""
        return [
            msgspec.to_builtins(one)
            for one in await desk.list_actions(caller.workspace, status, limit)
        ]

    @routes.post("/actions/{action_id}", status_code=204)
    async def say(caller: PlayEditor, action_id: str, given: ActionCommand) -> None:
        """Let an action be tried once more, or settle what became of one in doubt."""
        await desk.resolve_action(caller.workspace, action_id, given.verb, given.author)

    return routes
