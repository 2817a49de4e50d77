"""`/admin/v1/plays`, definitions, channel switches, maturity and a contact's decision history."""

from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from libs.common.api_keys import Caller
from libs.common.http.authentication import require_scope
from services.orchestrator.handlers.decision_history import DecisionHistoryService
from services.orchestrator.handlers.definitions import DefinitionService
from services.orchestrator.handlers.play_reports import PlayReportService
from services.orchestrator.handlers.plays import PlayService
from services.orchestrator.handlers.preview import PreviewService

PlayEditor = Annotated[Caller, require_scope("plays")]
Text = Annotated[str, Field(min_length=1, max_length=200_000)]
Author = Annotated[str, Field(min_length=1, max_length=100)]
DefinitionKind = Literal["content", "segment", "destination"]


class PlayDocument(BaseModel):
    """The text of a definition file, with its author."""

    model_config = ConfigDict(extra="forbid")

    text: Text
    author: Author = "the API"
    where: str = Field("file", max_length=300, description="file name in fault messages")


class PreviewRequest(PlayDocument):
    """An action of a play to render for a contact, and the address of a test message."""

    action: str = Field(min_length=1, max_length=60)
    who: str = Field(min_length=1, max_length=300)
    to: str | None = Field(None, max_length=320, description="address of a test message")


class RollbackRequest(BaseModel):
    """The version to make live again, by default the previous one."""

    model_config = ConfigDict(extra="forbid")

    number: int | None = Field(None, ge=1, le=1_000_000)


class ChannelStop(BaseModel):
    """The channel to stop."""

    model_config = ConfigDict(extra="forbid")

    channel: str = Field("*", max_length=40, description="name of a channel; * for all")
    author: Author = "the API"


def routers(
    service: PlayService,
    definitions: DefinitionService,
    preview: PreviewService,
    reports: PlayReportService,
    history: DecisionHistoryService,
) -> list[APIRouter]:
    """Return the routers."""
    return [
        _play_router(service, preview, reports),
        _definition_router(definitions),
        _switch_router(service),
        _report_router(reports, history),
    ]


def _play_router(
    service: PlayService, preview: PreviewService, reports: PlayReportService
) -> APIRouter:
    router = APIRouter(tags=["plays"])

    @router.get("/plays")
    async def list_plays(caller: PlayEditor) -> list[dict[str, Any]]:
        plays = await service.list_plays(caller.workspace)
        return [msgspec.to_builtins(play) for play in plays]

    @router.post("/plays/check")
    async def validate(caller: PlayEditor, document: PlayDocument) -> dict[str, str]:
        play = await service.validate(caller.workspace, document.text, document.where)
        return {"play": play.play}

    @router.post("/plays/preview")
    async def render_preview(caller: PlayEditor, document: PreviewRequest) -> dict[str, Any]:
        rendered = await preview.render_preview(
            caller.workspace,
            document.text,
            document.where,
            document.action,
            document.who,
            document.to,
        )
        body: dict[str, Any] = msgspec.to_builtins(rendered)
        return body

    @router.post("/plays", status_code=201)
    async def publish(caller: PlayEditor, document: PlayDocument) -> dict[str, Any]:
        play, number = await service.publish(
            caller.workspace, document.text, document.author, document.where
        )
        return {"play": play.play, "number": number}

    @router.get("/plays/{name}")
    async def get_play(
        caller: PlayEditor,
        name: str,
        number: Annotated[int | None, Query(ge=1, le=1_000_000)] = None,
    ) -> dict[str, Any]:
        text = await service.get_text(caller.workspace, name, number)
        return {
            "play": name,
            "text": text,
            "versions": await service.list_versions(caller.workspace, name),
        }

    @router.post("/plays/{name}/pause", status_code=204)
    async def pause(caller: PlayEditor, name: str) -> None:
        await service.set_paused(caller.workspace, name, on=True)

    @router.post("/plays/{name}/resume", status_code=204)
    async def resume(caller: PlayEditor, name: str) -> None:
        await service.set_paused(caller.workspace, name, on=False)

    @router.post("/plays/{name}/rollback")
    async def roll_back(caller: PlayEditor, name: str, target: RollbackRequest) -> dict[str, Any]:
        number = await service.roll_back(caller.workspace, name, target.number)
        return {"play": name, "number": number}

    @router.get("/plays/{name}/impact")
    async def impact(caller: PlayEditor, name: str) -> list[dict[str, Any]]:
        rates = await reports.measure_impact(caller.workspace, name)
        return [msgspec.to_builtins(rate) for rate in rates]

    return router


def _definition_router(service: DefinitionService) -> APIRouter:
    router = APIRouter(tags=["definitions"])

    @router.post("/definitions/{kind}", status_code=201)
    async def define(
        caller: PlayEditor, kind: DefinitionKind, document: PlayDocument
    ) -> dict[str, str]:
        name = await service.define(
            caller.workspace, kind, document.text, document.author, document.where
        )
        return {kind: name}

    @router.get("/definitions")
    async def list_definitions(caller: PlayEditor) -> list[dict[str, str]]:
        return await service.list_definitions(caller.workspace)

    @router.delete("/definitions/{kind}/{name}", status_code=204)
    async def delete_definition(caller: PlayEditor, kind: DefinitionKind, name: str) -> None:
        await service.delete(caller.workspace, kind, name)

    return router


def _switch_router(service: PlayService) -> APIRouter:
    router = APIRouter(tags=["switches"])

    @router.get("/switches")
    async def list_stopped_channels(caller: PlayEditor) -> list[str]:
        return await service.list_stopped_channels(caller.workspace)

    @router.post("/switches", status_code=204)
    async def stop_channel(caller: PlayEditor, stop: ChannelStop) -> None:
        await service.set_channel_stopped(caller.workspace, stop.channel, stop.author, on=True)

    @router.delete("/switches/{channel}", status_code=204)
    async def restart_channel(caller: PlayEditor, channel: str) -> None:
        await service.set_channel_stopped(caller.workspace, channel, "the API", on=False)

    return router


def _report_router(reports: PlayReportService, history: DecisionHistoryService) -> APIRouter:
    router = APIRouter(tags=["switches"])

    @router.get("/maturity")
    async def assess_maturity(caller: PlayEditor) -> dict[str, Any]:
        maturity = await reports.assess_maturity(caller.workspace)
        body: dict[str, Any] = msgspec.to_builtins(maturity)
        return body

    @router.get("/why/{who:path}")
    async def get_decisions(caller: PlayEditor, who: str) -> dict[str, Any]:
        decisions = await history.get_decisions(caller.workspace, who)
        body: dict[str, Any] = msgspec.to_builtins(decisions)
        return body

    return router
