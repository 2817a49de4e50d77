"""`/admin/v1/plays`, what plays name, the switches, and why a contact got something or did not."""

from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from libs.common.api_keys import Caller
from libs.common.http.authentication import require_scope
from services.orchestrator.handlers.decision_history import DecisionHistoryService
from services.orchestrator.handlers.plays import PlayService
from services.orchestrator.handlers.preview import PreviewService

PlayEditor = Annotated[Caller, require_scope("plays")]
Text = Annotated[str, Field(min_length=1, max_length=200_000)]
Author = Annotated[str, Field(min_length=1, max_length=100)]
DefinitionKind = Literal["content", "segment", "destination"]


class PlayDocument(BaseModel):
    """A file as it was written."""

    model_config = ConfigDict(extra="forbid")

    text: Text
    author: Author = "the API"
    where: str = Field("file", max_length=300, description="what faults call the file")


class PreviewRequest(PlayDocument):
    """Which action, for whom, and where a test goes."""

    action: str = Field(min_length=1, max_length=60)
    who: str = Field(min_length=1, max_length=300)
    to: str | None = Field(None, max_length=320, description="an address that gets it as a test")


class RollbackRequest(BaseModel):
    """Which version is to be live again; the one before by default."""

    model_config = ConfigDict(extra="forbid")

    number: int | None = Field(None, ge=1, le=1_000_000)


class ChannelStop(BaseModel):
    """Which channel stands still."""

    model_config = ConfigDict(extra="forbid")

    channel: str = Field("*", max_length=40, description="one channel; * for all")
    author: Author = "the API"


def routers(
    desk: PlayService, preview: PreviewService, why: DecisionHistoryService
) -> list[APIRouter]:
    """Return the routes."""
    return [_of_plays(desk, preview), _of_definitions(desk), _of_switches(desk, why)]


def _of_plays(desk: PlayService, preview: PreviewService) -> APIRouter:
    found = APIRouter(tags=["plays"])

    @found.get("/plays")
    async def every(caller: PlayEditor) -> list[dict[str, Any]]:
        return [msgspec.to_builtins(one) for one in await desk.list_plays(caller.workspace)]

    @found.post("/plays/check")
    async def check(caller: PlayEditor, given: PlayDocument) -> dict[str, str]:
        play = await desk.validate(caller.workspace, given.text, given.where)
        return {"play": play.play}

    @found.post("/plays/preview")
    async def show(caller: PlayEditor, given: PreviewRequest) -> dict[str, Any]:
        shown = await preview.render_preview(
            caller.workspace, given.text, given.where, given.action, given.who, given.to
        )
        told: dict[str, Any] = msgspec.to_builtins(shown)
        return told

    @found.post("/plays", status_code=201)
    async def publish(caller: PlayEditor, given: PlayDocument) -> dict[str, Any]:
        play, number = await desk.publish(caller.workspace, given.text, given.author, given.where)
        return {"play": play.play, "number": number}

    @found.get("/plays/{name}")
    async def one(
        caller: PlayEditor,
        name: str,
        number: Annotated[int | None, Query(ge=1, le=1_000_000)] = None,
    ) -> dict[str, Any]:
        text = await desk.get_text(caller.workspace, name, number)
        return {
            "play": name,
            "text": text,
            "versions": await desk.list_versions(caller.workspace, name),
        }

    @found.post("/plays/{name}/pause", status_code=204)
    async def pause(caller: PlayEditor, name: str) -> None:
        await desk.set_paused(caller.workspace, name, on=True)

    @found.post("/plays/{name}/resume", status_code=204)
    async def resume(caller: PlayEditor, name: str) -> None:
        await desk.set_paused(caller.workspace, name, on=False)

    @found.post("/plays/{name}/rollback")
    async def roll_back(caller: PlayEditor, name: str, given: RollbackRequest) -> dict[str, Any]:
        return {"play": name, "number": await desk.roll_back(caller.workspace, name, given.number)}

    @found.get("/plays/{name}/impact")
    async def impact(caller: PlayEditor, name: str) -> list[dict[str, Any]]:
        return [
            msgspec.to_builtins(one) for one in await desk.measure_impact(caller.workspace, name)
        ]

    return found


def _of_definitions(desk: PlayService) -> APIRouter:
    found = APIRouter(tags=["definitions"])

    @found.post("/definitions/{kind}", status_code=201)
    async def define(
        caller: PlayEditor, kind: DefinitionKind, given: PlayDocument
    ) -> dict[str, str]:
        return {
            kind: await desk.define(caller.workspace, kind, given.text, given.author, given.where)
        }

    @found.get("/definitions")
    async def definitions(caller: PlayEditor) -> list[dict[str, str]]:
        return await desk.list_definitions(caller.workspace)

    @found.delete("/definitions/{kind}/{name}", status_code=204)
    async def undefine(caller: PlayEditor, kind: DefinitionKind, name: str) -> None:
        await desk.delete_definition(caller.workspace, kind, name)

    return found


def _of_switches(desk: PlayService, why: DecisionHistoryService) -> APIRouter:
    found = APIRouter(tags=["switches"])

    @found.get("/switches")
    async def switches(caller: PlayEditor) -> list[str]:
        return await desk.list_stopped_channels(caller.workspace)

    @found.post("/switches", status_code=204)
    async def stop(caller: PlayEditor, given: ChannelStop) -> None:
        await desk.set_channel_stopped(caller.workspace, given.channel, given.author, on=True)

    @found.delete("/switches/{channel}", status_code=204)
    async def go_on(caller: PlayEditor, channel: str) -> None:
        await desk.set_channel_stopped(caller.workspace, channel, "the API", on=False)

    @found.get("/maturity")
    async def maturity(caller: PlayEditor) -> dict[str, Any]:
        reached: dict[str, Any] = msgspec.to_builtins(await desk.assess_maturity(caller.workspace))
        return reached

    @found.get("/why/{who}")
    async def why_not(caller: PlayEditor, who: str) -> dict[str, Any]:
        found_out: dict[str, Any] = msgspec.to_builtins(
            await why.get_decisions(caller.workspace, who)
        )
        return found_out

    return found
