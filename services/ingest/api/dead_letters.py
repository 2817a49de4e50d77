"""`/admin/v1/dlq` and `/admin/v1/live`: what was refused, and what comes in."""

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
    """Letters, and who does something to them, and why."""

    model_config = ConfigDict(extra="forbid")

    numbers: list[DeadLetterNumber] = Field(min_length=1, max_length=1_000)
    author: str = Field(min_length=1, max_length=600)
    note: str = Field("", max_length=2_000)


class DeadLetterReplay(DeadLetterSelection):
    """Letters to try again, and what to put into their calls before: {place: value}."""

    set: dict[str, Any] = Field(default_factory=dict, max_length=50)


async def _events(found: AsyncIterator[LiveEvent]) -> AsyncIterator[bytes]:
    """Yield server-sent events, and comments where nothing comes: a proxy cuts off what is silent, and who left is noticed."""
    waiting: asyncio.Future[LiveEvent] | None = None
    try:
        while True:
            waiting = waiting or asyncio.ensure_future(anext(found))
            done, _ = await asyncio.wait([waiting], timeout=HEARTBEAT_SECONDS)
            if not done:
                yield b":\n\n"
                continue
            yield b"data: " + _encode(waiting.result()) + b"\n\n"
            waiting = None
    finally:
        if waiting is not None:
            waiting.cancel()


def router(letters: DeadLetterService, bootstrap_servers: str) -> APIRouter:
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
            Field(max_length=120, description="`refused_at:number` of the last letter of a page"),
        ] = "",
    ) -> dict[str, Any]:
        """Return a service's dead letters that fit, oldest first, what they hold cut off; `all` is how many there are."""
        found = await letters.list_page(
            service,
            lambda one: one.matches(reason=reason, where=where, since=since, text=text),
            marked=marked,
            limit=limit,
            after=after,
        )
        told: dict[str, Any] = msgspec.to_builtins(found)
        return told

    @routes.get("/dlq/{topic}/{partition}/{offset}", dependencies=[require_scope("dlq")])
    async def show(topic: str, partition: str, offset: str) -> dict[str, Any]:
        """Return one dead letter."""
        found: dict[str, Any] = msgspec.to_builtins(
            await letters.get(f"{topic}/{partition}/{offset}")
        )
        return found

    @routes.post("/dlq/replay", dependencies=[require_scope("dlq")])
    async def replay(chosen: DeadLetterReplay) -> dict[str, Any]:
        """Try letters again, repaired if need be; twice is once."""
        done = await letters.replay(chosen.numbers, chosen.author, chosen.note, chosen.set)
        found: dict[str, Any] = msgspec.to_builtins(done)
        return found

    @routes.post("/dlq/drop", dependencies=[require_scope("dlq")])
    async def drop(chosen: DeadLetterSelection) -> dict[str, Any]:
        """Say that letters are to be left."""
        return {"dropped": await letters.drop(chosen.numbers, chosen.author, chosen.note)}

    @routes.get("/live", dependencies=[require_scope("live")])
    async def stream() -> StreamingResponse:
        """Stream what comes in from now on, as server-sent events."""
        return StreamingResponse(
            _events(stream_live_events(bootstrap_servers)),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store"},
        )

    return routes
