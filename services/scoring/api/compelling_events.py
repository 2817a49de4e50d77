"""`/v1/compelling-events`: reasons to act now, raised by people and by other systems."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, model_validator

from libs.common.api_keys import Caller
from libs.common.durations import Duration
from libs.common.http.authentication import require_scope
from libs.common.messages.compelling_event import EventScope
from services.scoring.domain.compelling_event import TrackedEvent, sort_thresholds
from services.scoring.handlers.compelling_events import CompellingEventService, NewCompellingEvent

Reader = Annotated[Caller, require_scope("contacts:read")]
EventManager = Annotated[Caller, require_scope("events")]
Instant = Annotated[int, Field(ge=0, lt=1 << 53, description="microseconds UTC")]
SingleLine = Annotated[str, Field(max_length=500, pattern=r"^[^\x00]*$")]


class CompellingEventUpdate(BaseModel):
    """What is to change; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    date: Instant | None = None
    owner: SingleLine | None = None
    consequence: SingleLine | None = None


class CompellingEventCreate(BaseModel):
    """An event to raise: about a contact (id, identifier or e-mail), an account (its group id) or a market (nobody)."""

    model_config = ConfigDict(extra="forbid")

    kind: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,60}$")
    scope: EventScope = "contact"
    who: str = Field("", max_length=300)
    event_id: str = Field(
        "", pattern=r"^[A-Za-z0-9_.:-]{0,80}$", description="yours, so that nothing is raised twice"
    )
    date: Instant | None = Field(None, description="when it will be too late")
    owner: SingleLine = ""
    consequence: SingleLine = ""
    thresholds: tuple[Duration, ...] | None = Field(
        None, max_length=10, description="how long before it is told again"
    )
    properties: dict[str, Any] = Field({}, max_length=50)

    @model_validator(mode="after")
    def _has_no_nul(self) -> "CompellingEventCreate":
        if "\\u0000" in self.model_dump_json():
            raise ValueError("NUL is no character of a text")
        return self


def router(desk: CompellingEventService) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["compelling events"])

    @routes.get("/compelling-events")
    async def every(
        caller: Reader,
        who: Annotated[str | None, Query(max_length=300)] = None,
        limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    ) -> list[dict[str, Any]]:
        """Return the open events, those whose date comes first first."""
        return [_shown(event) for event in await desk.list_open(caller.workspace, who, limit)]

    @routes.post("/compelling-events", status_code=201)
    async def raise_(caller: EventManager, given: CompellingEventCreate) -> dict[str, Any]:
        """Raise an event."""
        fields = given.model_dump()
        if given.thresholds is not None:
            fields["thresholds"] = sort_thresholds(given.thresholds)
        return _shown(
            await desk.raise_event(caller.workspace, NewCompellingEvent(**fields), "the API")
        )

    @routes.patch("/compelling-events/{event_id}")
    async def change(
        caller: EventManager, event_id: str, given: CompellingEventUpdate
    ) -> dict[str, Any]:
        """Change an open event; another date lets its thresholds come again."""
        return _shown(
            await desk.change(caller.workspace, event_id, given.model_dump(exclude_none=True))
        )

    @routes.delete("/compelling-events/{event_id}")
    async def withdraw(caller: EventManager, event_id: str) -> dict[str, Any]:
        """Take an open event back: plays that it started end."""
        return _shown(await desk.withdraw(caller.workspace, event_id))

    return routes


def _shown(event: TrackedEvent) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(event)
    return found
