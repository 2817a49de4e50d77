"""`/v1/stage-changes`: published messages by cursor, for clients that do not consume Kafka."""

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
    """A published message; `data` is the message value on the topic."""

    id: str
    type: MessageType
    data: dict[str, Any]


class MessageList(BaseModel):
    """A page of messages, and the cursor of the next page."""

    items: list[MessageDocument]
    cursor: str
    more: bool


def router(changes: PublishedMessageService) -> APIRouter:
    """Return the route of published messages."""
    routes = APIRouter(tags=["stage changes"])

    @routes.get("/stage-changes", response_model=MessageList)
    async def stage_changes(  # noqa: PLR0913, PLR0917
        caller: Reader,
        cursor: Annotated[
            str,
            Query(
                max_length=200_000,
                description="the last page's cursor; empty: the first message; `now`: the end",
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
        """Return the messages after a cursor, in order for each contact, and the next cursor.

        `more` is true when further messages may be there already; otherwise poll again later. A
        message is the same as on the topic, and repeats only if an old cursor is used again. Each
        filter may be given several times.
        """
        message_filter = MessageFilter(types, cycle, stage, direction, reason, signal)
        page = await changes.list_after(caller.workspace, cursor, limit, message_filter)
        # Stored messages are not decoded, so the page is encoded without its response model.
        return Response(msgspec.json.encode(page), media_type="application/json")

    return routes
