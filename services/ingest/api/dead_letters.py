"""`/admin/v1/dlq` and `/admin/v1/live`: dead letters, and the stream of incoming messages."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from libs.common.http.authentication import require_scope
from services.ingest.handlers.dead_letters import DeadLetterService
from services.ingest.handlers.live_events import LiveEvent, stream_live_events

DeadLetterNumber = Annotated[str, Field(max_length=100, description="topic/partition/offset")]
HEARTBEAT_SECONDS = 10.0
_encode = msgspec.json.Encoder().encode


class DeadLetterSelection(BaseModel):
    """Dead letters by number; `author` and `note` are recorded with their mark."""

    model_config = ConfigDict(extra="forbid")

    numbers: list[DeadLetterNumber] = Field(min_length=1, max_length=1_000)
    author: str = Field(min_length=1, max_length=600)
    note: str = Field("", max_length=2_000)


class DeadLetterReplay(DeadLetterSelection):
    """Dead letters to try again; `set` repairs their calls first: {path: value}."""

    set: dict[str, Any] = Field(default_factory=dict, max_length=50)


async def _server_sent_events(events: AsyncIterator[LiveEvent]) -> AsyncIterator[bytes]:
    """Yield server-sent events, and a comment after each HEARTBEAT_SECONDS without an event.

    Proxies cut silent connections; a write also detects that the client has left.
    """
    next_event: asyncio.Future[LiveEvent] | None = None
    try:
        while True:
            next_event = next_event or asyncio.ensure_future(anext(events))
            done, _ = await asyncio.wait([next_event], timeout=HEARTBEAT_SECONDS)
            if not done:
                yield b":\n\n"
                continue
            yield b"data: " + _encode(next_event.result()) + b"\n\n"
            next_event = None
    finally:
        if next_event is not None:
            next_event.cancel()


def router(dead_letters: DeadLetterService, bootstrap_servers: str) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["repair"])

    @routes.get("/dlq", dependencies=[require_scope("dlq")])
    async def listing(  # noqa: PLR0913, PLR0917
        service: Literal["ingest", "scoring", "orchestrator"] = "ingest",
        reason: str = "",
        where: str = "",
        text: str = "",
        since: Annotated[int, Field(ge=0, description="microseconds UTC")] = 0,
        marked: bool = False,
        limit: Annotated[int, Field(ge=1, le=10_000)] = 100,
        after: Annotated[
            str,
            Field(
                max_length=120, description="`refused_at:number` of the last dead letter of a page"
            ),
        ] = "",
    ) -> dict[str, Any]:
        """Return a service's dead letters that match, oldest first; their content is truncated.

        `all` is the number of matches.
        """
        page = await dead_letters.list_page(
            service,
            lambda letter: letter.matches(reason=reason, where=where, since=since, text=text),
            marked=marked,
            limit=limit,
            after=after,
        )
        document: dict[str, Any] = msgspec.to_builtins(page)
        return document

    @routes.get("/dlq/{topic}/{partition}/{offset}", dependencies=[require_scope("dlq")])
    async def show(topic: str, partition: str, offset: str) -> dict[str, Any]:
        """Return one dead letter."""
        letter = await dead_letters.get(f"{topic}/{partition}/{offset}")
        document: dict[str, Any] = msgspec.to_builtins(letter)
        return document

    @routes.post("/dlq/replay", dependencies=[require_scope("dlq")])
    async def replay(selection: DeadLetterReplay) -> dict[str, Any]:
        """Try dead letters again, with repairs if any; a repeated replay adds nothing."""
        result = await dead_letters.replay(
            selection.numbers, selection.author, selection.note, selection.set
        )
        document: dict[str, Any] = msgspec.to_builtins(result)
        return document

    @routes.post("/dlq/drop", dependencies=[require_scope("dlq")])
    async def drop(selection: DeadLetterSelection) -> dict[str, Any]:
        """Mark dead letters as dropped; they are not listed any more."""
        count = await dead_letters.drop(selection.numbers, selection.author, selection.note)
        return {"dropped": count}

    @routes.get("/live", dependencies=[require_scope("live")])
    async def stream() -> StreamingResponse:
        """Stream incoming messages from now on, as server-sent events."""
        return StreamingResponse(
            _server_sent_events(stream_live_events(bootstrap_servers)),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store"},
        )

    return routes
