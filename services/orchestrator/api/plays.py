"""`/admin/v1/plays`, what plays name, the switches, and why a contact got something or did not."""

from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from libs.common.api_keys import Caller
from libs.common.http.authentication import require_scope
from services.orchestrator.handlers.plays import PlaysDesk
from services.orchestrator.handlers.preview import Preview
from services.orchestrator.handlers.why import Why

Keeper = Annotated[Caller, require_scope("plays")]
Text = Annotated[str, Field(min_length=1, max_length=200_000)]
Author = Annotated[str, Field(min_length=1, max_length=100)]
Names = Literal["content", "segment", "destination"]


class Written(BaseModel):
    """A file as it was written."""

    model_config = ConfigDict(extra="forbid")

    text: Text
    author: Author = "the API"
    where: str = Field("file", max_length=300, description="what faults call the file")


class Previewed(Written):
    """Which action, for whom, and where a test goes."""

    action: str = Field(min_length=1, max_length=60)
    who: str = Field(min_length=1, max_length=300)
    to: str | None = Field(None, max_length=320, description="an address that gets it as a test")


class Back(BaseModel):
    """Which version is to be live again; the one before by default."""

    model_config = ConfigDict(extra="forbid")

    number: int | None = Field(None, ge=1, le=1_000_000)


class Stop(BaseModel):
    """Which channel stands still."""

    model_config = ConfigDict(extra="forbid")

    channel: str = Field("*", max_length=40, description="one channel; * for all")
    author: Author = "the API"


def routers(desk: PlaysDesk, preview: Preview, why: Why) -> list[APIRouter]:
    """Return the routes."""
    return [_of_plays(desk, preview), _of_definitions(desk), _of_switches(desk, why)]


def _of_plays(desk: PlaysDesk, preview: Preview) -> APIRouter:
    found = APIRouter(tags=["plays"])

    @found.get("/plays")
    async def every(caller: Keeper) -> list[dict[str, Any]]:
        return [msgspec.to_builtins(one) for one in await desk.every(caller.workspace)]

    @found.post("/plays/check")
    async def check(caller: Keeper, given: Written) -> dict[str, str]:
        play = await desk.check(caller.workspace, given.text, given.where)
        return {"play": play.play}

    @found.post("/plays/preview")
    async def show(caller: Keeper, given: Previewed) -> dict[str, Any]:
        shown = await preview.of(caller.workspace, given.text, given.where, given.action, given.who, given.to)
        told: dict[str, Any] = msgspec.to_builtins(shown)
        return told

    @found.post("/plays", status_code=201)
    async def publish(caller: Keeper, given: Written) -> dict[str, Any]:
        play, number = await desk.publish(caller.workspace, given.text, given.author, given.where)
        return {"play": play.play, "number": number}

    @found.get("/plays/{name}")
    async def one(
        caller: Keeper, name: str, number: Annotated[int | None, Query(ge=1, le=1_000_000)] = None
    ) -> dict[str, Any]:
        text = await desk.text(caller.workspace, name, number)
        return {"play": name, "text": text, "versions": await desk.versions(caller.workspace, name)}

    @found.post("/plays/{name}/pause", status_code=204)
    async def pause(caller: Keeper, name: str) -> None:
        await desk.pause(caller.workspace, name, on=True)

    @found.post("/plays/{name}/resume", status_code=204)
    async def resume(caller: Keeper, name: str) -> None:
        await desk.pause(caller.workspace, name, on=False)

    @found.post("/plays/{name}/rollback")
    async def roll_back(caller: Keeper, name: str, given: Back) -> dict[str, Any]:
        return {"play": name, "number": await desk.roll_back(caller.workspace, name, given.number)}

    @found.get("/plays/{name}/impact")
    async def impact(caller: Keeper, name: str) -> list[dict[str, Any]]:
        return [msgspec.to_builtins(one) for one in await desk.impact(caller.workspace, name)]

    return found


def _of_definitions(desk: PlaysDesk) -> APIRouter:
    found = APIRouter(tags=["definitions"])

    @found.post("/definitions/{kind}", status_code=201)
    async def define(caller: Keeper, kind: Names, given: Written) -> dict[str, str]:
        return {kind: await desk.define(caller.workspace, kind, given.text, given.author, given.where)}

    @found.get("/definitions")
    async def definitions(caller: Keeper) -> list[dict[str, str]]:
        return await desk.definitions(caller.workspace)

    @found.delete("/definitions/{kind}/{name}", status_code=204)
    async def undefine(caller: Keeper, kind: Names, name: str) -> None:
        await desk.undefine(caller.workspace, kind, name)

    return found


def _of_switches(desk: PlaysDesk, why: Why) -> APIRouter:
    found = APIRouter(tags=["switches"])

    @found.get("/switches")
    async def switches(caller: Keeper) -> list[str]:
        return await desk.stopped(caller.workspace)

    @found.post("/switches", status_code=204)
    async def stop(caller: Keeper, given: Stop) -> None:
        await desk.stop(caller.workspace, given.channel, given.author, on=True)

    @found.delete("/switches/{channel}", status_code=204)
    async def go_on(caller: Keeper, channel: str) -> None:
        await desk.stop(caller.workspace, channel, "the API", on=False)

    @found.get("/maturity")
    async def maturity(caller: Keeper) -> dict[str, Any]:
        reached: dict[str, Any] = msgspec.to_builtins(await desk.maturity(caller.workspace))
        return reached

    @found.get("/why/{who}")
    async def why_not(caller: Keeper, who: str) -> dict[str, Any]:
        found_out: dict[str, Any] = msgspec.to_builtins(await why.of(caller.workspace, who))
        return found_out

    return found
