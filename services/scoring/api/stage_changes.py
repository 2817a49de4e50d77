"""`/v1/stage-changes`: what was published, read by cursor, for those who follow no topic."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from libs.common.api_keys import Caller
from libs.common.http.authentication import require_scope
from libs.common.messages.message_filter import MessageFilter, MessageType
from services.scoring.handlers.published_messages import MAX_MESSAGES, PublishedMessageService

Reader = Annotated[Caller, require_scope("stage_changes:read")]
FilterValues = Annotated[tuple[str, ...], Query(max_length=100)]


class MessageDocument(BaseModel):
    """A message that was published; `data` is what lies on the topic."""

    id: str
    type: MessageType
    data: dict[str, Any]


class MessageList(BaseModel):
    """Messages in order, and where the next ones are."""

    items: list[MessageDocument]
    cursor: str
    more: bool


def router(changes: PublishedMessageService) -> APIRouter:
    """Return the route."""
    routes = APIRouter(tags=["stage changes"])

    @routes.get("/stage-changes", response_model=MessageList)
    async def stage_changes(  # noqa: PLR0913, PLR0917
        caller: Reader,
        cursor: Annotated[
            str,
            Query(
                max_length=200_000,
                description="the last answer's; none: the beginning; `now`: the end",
            ),
        ] = "",
        limit: Annotated[int, Query(ge=1, le=MAX_MESSAGES)] = 100,
        types: Annotated[tuple[MessageType, ...], Query(max_length=4, alias="type")] = (
            "stage_change",
        ),
        cycle: FilterValues = (),
        stage: FilterValues = (),
        direction: FilterValues = (),
        reason: FilterValues = (),
        signal: FilterValues = (),
    ) -> Response:
        """Return messages behind a cursor, each contact's in order, and the cursor behind them.

        `more` says that there may be more at once; otherwise ask again in a while. A message is what lies on the topic; the
        same one comes twice only if you give an old cursor again. A filter may be given several times.
        """
        wanted = MessageFilter(types, cycle, stage, direction, reason, signal)
        found = await changes.list_after(caller.workspace, cursor, limit, wanted)
        return Response(
            msgspec.json.encode(found), media_type="application/json"
        )  # messages go out as they lie there

    return routes
