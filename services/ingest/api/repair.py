"""`/admin/v1/dlq` and `/admin/v1/live`: what was refused, and what comes in."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from libs.common.doors import opened_by
from services.ingest.handlers.dead_letters import DeadLetters
from services.ingest.handlers.live import live

Number = Annotated[str, Field(max_length=100, description="topic/partition/offset")]
_encode = msgspec.json.Encoder().encode


class Chosen(BaseModel):
    """Letters, and who does something to them, and why."""

    model_config = ConfigDict(extra="forbid")

    numbers: list[Number] = Field(min_length=1, max_length=1_000)
    author: str = Field(min_length=1, max_length=600)
    note: str = Field("", max_length=2_000)


def router(letters: DeadLetters, bootstrap_servers: str) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["repair"])

    @routes.get("/dlq", dependencies=[opened_by("dlq")])
    async def listing(
        service: Literal["ingest", "scoring", "orchestrator"] = "ingest",
        reason: str = "",
        where: str = "",
        text: str = "",
        since: Annotated[int, Field(ge=0, description="microseconds UTC")] = 0,
        marked: bool = False,
        limit: Annotated[int, Field(ge=1, le=10_000)] = 100,
    ) -> dict[str, Any]:
        """Return a service's dead letters that fit, oldest first."""
        found = await letters.found(
            service, lambda one: one.fits(reason=reason, where=where, since=since, text=text), marked=marked
        )
        return {"letters": msgspec.to_builtins(found[:limit]), "all": len(found)}

    @routes.get("/dlq/{topic}/{partition}/{offset}", dependencies=[opened_by("dlq")])
    async def show(topic: str, partition: str, offset: str) -> dict[str, Any]:
        """Return one dead letter."""
        found: dict[str, Any] = msgspec.to_builtins(await letters.show(f"{topic}/{partition}/{offset}"))
        return found

    @routes.post("/dlq/replay", dependencies=[opened_by("dlq")])
    async def replay(chosen: Chosen) -> dict[str, Any]:
        """Try letters again; twice is once."""
        found: dict[str, Any] = msgspec.to_builtins(await letters.replay(chosen.numbers, chosen.author, chosen.note))
        return found

    @routes.post("/dlq/drop", dependencies=[opened_by("dlq")])
    async def drop(chosen: Chosen) -> dict[str, Any]:
        """Say that letters are to be left."""
        return {"dropped": await letters.drop(chosen.numbers, chosen.author, chosen.note)}

    @routes.get("/live", dependencies=[opened_by("live")])
    async def stream() -> StreamingResponse:
        """Stream what comes in from now on, as server-sent events."""

        async def events() -> AsyncIterator[bytes]:
            async for seen in live(bootstrap_servers):
                yield b"data: " + _encode(seen) + b"\n\n"

        return StreamingResponse(events(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    return routes
