"""`/v1/compelling-events`: reasons to act now, raised by users and by other systems."""

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
    """Fields to change; omitted ones keep their values."""

    model_config = ConfigDict(extra="forbid")

    date: Instant | None = None
    owner: SingleLine | None = None
    consequence: SingleLine | None = None


class CompellingEventCreate(BaseModel):
    """An event to raise; its subject `who` depends on the scope.

    A contact is named by id, identifier or e-mail address, an account by its group id; a market
    has no subject.
    """

    model_config = ConfigDict(extra="forbid")

    kind: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,60}$")
    scope: EventScope = "contact"
    who: str = Field("", max_length=300)
    event_id: str = Field(
        "", pattern=r"^[A-Za-z0-9_.:-]{0,80}$", description="your own id, against duplicates"
    )
    date: Instant | None = Field(None, description="deadline, in microseconds UTC")
    owner: SingleLine = ""
    consequence: SingleLine = ""
    thresholds: tuple[Duration, ...] | None = Field(
        None, max_length=10, description="spans before the date at which to send reminders"
    )
    properties: dict[str, Any] = Field({}, max_length=50)

    @model_validator(mode="after")
    def _has_no_nul(self) -> "CompellingEventCreate":
        if "\\u0000" in self.model_dump_json():
            raise ValueError("a text must not contain NUL")
        return self


def router(service: CompellingEventService) -> APIRouter:
    """Return the routes of compelling events."""
    routes = APIRouter(tags=["compelling events"])

    @routes.get("/compelling-events")
    async def list_open(
        caller: Reader,
        who: Annotated[str | None, Query(max_length=300)] = None,
        limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    ) -> list[dict[str, Any]]:
        """Return the open events, the earliest date first."""
        events = await service.list_open(caller.workspace, who, limit)
        return [_to_document(event) for event in events]

    @routes.post("/compelling-events", status_code=201)
    async def raise_(caller: EventManager, event: CompellingEventCreate) -> dict[str, Any]:
        """Raise an event."""
        fields = event.model_dump()
        if event.thresholds is not None:
            fields["thresholds"] = sort_thresholds(event.thresholds)
        return _to_document(
            await service.raise_event(caller.workspace, NewCompellingEvent(**fields), "the API")
        )

    @routes.patch("/compelling-events/{event_id}")
    async def change(
        caller: EventManager, event_id: str, update: CompellingEventUpdate
    ) -> dict[str, Any]:
        """Change an open event; a new date restarts its reminders."""
        return _to_document(
            await service.change(caller.workspace, event_id, update.model_dump(exclude_none=True))
        )

    @routes.delete("/compelling-events/{event_id}")
    async def withdraw(caller: EventManager, event_id: str) -> dict[str, Any]:
        """Withdraw an open event; the plays that it started end."""
        return _to_document(await service.withdraw(caller.workspace, event_id))

    return routes


def _to_document(event: TrackedEvent) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(event)
    return document
