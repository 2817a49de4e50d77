"""`/admin/v1/subscriptions`: who is told of stage changes and signals by webhook."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from libs.common.api_keys import Caller
from libs.common.durations import Duration
from libs.common.http.authentication import require_scope
from libs.common.messages.message_filter import MessageFilter, MessageType
from services.orchestrator.subscriptions.service import SubscriptionService, SubscriptionView

SubscriptionManager = Annotated[Caller, require_scope("subscriptions")]
Name = Annotated[str, Field(min_length=1, max_length=60)]
Url = Annotated[str, Field(min_length=1, max_length=2_000)]
FilterValues = Annotated[tuple[str, ...], Field(max_length=100)]


class FilterDocument(BaseModel):
    """What is wanted; an empty list wants everything of its kind. A stage is the one that a contact came to."""

    model_config = ConfigDict(extra="forbid")

    types: tuple[MessageType, ...] = Field(("stage_change",), min_length=1, max_length=4)
    cycles: FilterValues = ()
    stages: FilterValues = ()
    directions: FilterValues = ()
    reasons: FilterValues = ()
    signals: FilterValues = ()

    def to_filter(self) -> MessageFilter:
        """Return it as the log is read with it."""
        return MessageFilter(**self.model_dump())


class SubscriptionUpdate(BaseModel):
    """What is to change; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    url: Url | None = None
    wanted: FilterDocument | None = None


class SubscriptionCreate(BaseModel):
    """A subscription to make."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    url: Url
    wanted: FilterDocument = FilterDocument()
    beginning: bool = Field(
        False, description="begin with the first message of the log and not with the next one"
    )


class SecretRotation(BaseModel):
    """How long deliveries carry the old signature as well."""

    model_config = ConfigDict(extra="forbid")

    overlap: Duration = 86_400_000_000


class ResendRequest(BaseModel):
    """What to send again: one message, everything since an instant (microseconds UTC), or else what was given up."""

    model_config = ConfigDict(extra="forbid")

    message: str | None = Field(None, min_length=1, max_length=200)
    since: int | None = Field(None, ge=0, lt=1 << 53)


def router(desk: SubscriptionService) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/subscriptions", tags=["subscriptions"])

    @routes.get("")
    async def every(caller: SubscriptionManager) -> list[dict[str, Any]]:
        """Return the subscriptions and what each has before it."""
        return [_told(one) for one in await desk.list_subscriptions(caller.workspace)]

    @routes.post("", status_code=201)
    async def create(caller: SubscriptionManager, new: SubscriptionCreate) -> dict[str, Any]:
        """Subscribe. `secret`, with which deliveries are signed, is in this answer and nowhere else."""
        selection = new.wanted.to_filter()
        return _told(
            await desk.create(
                caller.workspace, new.name, new.url, selection, beginning=new.beginning
            )
        )

    @routes.get("/{name}")
    async def show(caller: SubscriptionManager, name: Name) -> dict[str, Any]:
        """Return a subscription with its newest attempts."""
        return _told(await desk.get(caller.workspace, name))

    @routes.patch("/{name}")
    async def change(
        caller: SubscriptionManager, name: Name, changes: SubscriptionUpdate
    ) -> dict[str, Any]:
        """Send elsewhere, or something else, from now on."""
        wanted = changes.wanted.to_filter() if changes.wanted is not None else None
        return _told(await desk.update(caller.workspace, name, changes.url, wanted))

    @routes.delete("/{name}", status_code=204)
    async def delete(caller: SubscriptionManager, name: Name) -> None:
        """Forget a subscription, what waits for it and its delivery log."""
        await desk.delete(caller.workspace, name)

    @routes.post("/{name}/pause")
    async def pause(caller: SubscriptionManager, name: Name) -> dict[str, Any]:
        """Send nothing until it is resumed; nothing is lost meanwhile."""
        return _told(await desk.pause(caller.workspace, name))

    @routes.post("/{name}/resume")
    async def resume(caller: SubscriptionManager, name: Name) -> dict[str, Any]:
        """Go on where it stopped, also after it was disabled."""
        return _told(await desk.resume(caller.workspace, name))

    @routes.post("/{name}/secret")
    async def rotate(
        caller: SubscriptionManager, name: Name, rotation: SecretRotation
    ) -> dict[str, Any]:
        """Sign with a new `secret`; for `overlap` longer with the old one too."""
        return _told(await desk.rotate_secret(caller.workspace, name, rotation.overlap))

    @routes.post("/{name}/resend")
    async def resend(
        caller: SubscriptionManager, name: Name, what: ResendRequest
    ) -> dict[str, Any]:
        """Send again; receivers know a repeat by its `webhook-id`."""
        return _told(
            await desk.resend(caller.workspace, name, message=what.message, since=what.since)
        )

    return routes


def _told(shown: SubscriptionView) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(shown)
    return found
