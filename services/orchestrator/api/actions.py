"""`/admin/v1/actions`: actions by status, and resolution of failed actions and actions in doubt."""

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
    """An operator's resolution: retry the action, or record that it arrived or was lost."""

    model_config = ConfigDict(extra="forbid")

    verb: Literal["retry", "arrived", "lost"]
    author: str = Field("the API", min_length=1, max_length=100)


def router(ledger: ActionLedgerService) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["actions"])

    @routes.get("/actions")
    async def list_actions(
        caller: PlayEditor,
        status: ActionStatus = "failed",
        limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    ) -> list[dict[str, Any]]:
        """Return the actions of a status, the latest decisions first."""
        rows = await ledger.list_actions(caller.workspace, status, limit)
        return [msgspec.to_builtins(row) for row in rows]

    @routes.post("/actions/{action_id}", status_code=204)
    async def resolve(caller: PlayEditor, action_id: str, command: ActionCommand) -> None:
        """Retry an action, or record the outcome of an action in doubt."""
        await ledger.resolve_action(caller.workspace, action_id, command.verb, command.author)

    return routes
