"""`/v1/stage-changes`: what was published, read by cursor, for those who follow no topic."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from libs.common.api_keys import Caller
from libs.common.http.authentication import require_scope
from libs.common.messages.message_filter import MessageFilter, MessageType
from services.scoring.handlers.published import MOST, Changes

Reader = Annotated[Caller, require_scope("stage_changes:read")]
Some = Annotated[tuple[str, ...], Query(max_length=100)]


class Item(BaseModel):
    """A message that was published; `data` is what lies on the topic."""

    id: str
    type: MessageType
    data: dict[str, Any]


class Answered(BaseModel):
    """Messages in order, and where the next ones are."""

    items: list[Item]
    cursor: str
    more: bool


def router(changes: Changes) -> APIRouter:
    """Return the route."""
    routes = APIRouter(tags=["stage changes"])

    @routes.get("/stage-changes", response_model=Answered)
    async def stage_changes(  # noqa: PLR0913, PLR0917 - each narrows the choice
        caller: Reader,
        cursor: Annotated[
            str, Query(max_length=200_000, description="the last answer's; none: the beginning; `now`: the end")
        ] = "",
        limit: Annotated[int, Query(ge=1, le=MOST)] = 100,
        types: Annotated[tuple[MessageType, ...], Query(max_length=4, alias="type")] = ("stage_change",),
        cycle: Some = (),
        stage: Some = (),
        direction: Some = (),
        reason: Some = (),
        signal: Some = (),
    ) -> Response:
        """Return messages behind a cursor, each contact's in order, and the cursor behind them.

        `more` says that there may be more at once; otherwise ask again in a while. A message is what lies on the topic; the
        same one comes twice only if you give an old cursor again. A filter may be given several times.
        """
        wanted = MessageFilter(types, cycle, stage, direction, reason, signal)
        found = await changes.after(caller.workspace, cursor, limit, wanted)
        return Response(msgspec.json.encode(found), media_type="application/json")  # messages go out as they lie there

    return routes
