"""`/admin/v1/subscriptions`: webhook subscriptions to published messages."""

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
    """A message filter; an empty list matches every value.

    `stages` are the stages that a contact moved to.
    """

    model_config = ConfigDict(extra="forbid")

    types: tuple[MessageType, ...] = Field(("stage_change",), min_length=1, max_length=4)
    cycles: FilterValues = ()
    stages: FilterValues = ()
    directions: FilterValues = ()
    reasons: FilterValues = ()
    signals: FilterValues = ()

    def to_filter(self) -> MessageFilter:
        """Return the filter of the published-message log."""
        return MessageFilter(**self.model_dump())


class SubscriptionUpdate(BaseModel):
    """Changes of a subscription; omitted fields stay as they are."""

    model_config = ConfigDict(extra="forbid")

    url: Url | None = None
    wanted: FilterDocument | None = None


class SubscriptionCreate(BaseModel):
    """A new subscription."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    url: Url
    wanted: FilterDocument = FilterDocument()
    beginning: bool = Field(
        False, description="start at the first message of the log instead of the next one"
    )


class SecretRotation(BaseModel):
    """`overlap`: time during which deliveries carry the old signature as well."""

    model_config = ConfigDict(extra="forbid")

    overlap: Duration = 86_400_000_000


class ResendRequest(BaseModel):
    """Messages to send again.

    One message, all messages since an instant (microseconds UTC), or by default the messages that
    were given up.
    """

    model_config = ConfigDict(extra="forbid")

    message: str | None = Field(None, min_length=1, max_length=200)
    since: int | None = Field(None, ge=0, lt=1 << 53)


def router(service: SubscriptionService) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/subscriptions", tags=["subscriptions"])

    @routes.get("")
    async def list_subscriptions(caller: SubscriptionManager) -> list[dict[str, Any]]:
        """Return the subscriptions, each with its backlog."""
        views = await service.list_subscriptions(caller.workspace)
        return [_to_json(view) for view in views]

    @routes.post("", status_code=201)
    async def create(caller: SubscriptionManager, new: SubscriptionCreate) -> dict[str, Any]:
        """Create a subscription. Only this response contains the signing `secret`."""
        selection = new.wanted.to_filter()
        return _to_json(
            await service.create(
                caller.workspace, new.name, new.url, selection, beginning=new.beginning
            )
        )

    @routes.get("/{name}")
    async def get_subscription(caller: SubscriptionManager, name: Name) -> dict[str, Any]:
        """Return a subscription with its newest delivery attempts."""
        return _to_json(await service.get(caller.workspace, name))

    @routes.patch("/{name}")
    async def update(
        caller: SubscriptionManager, name: Name, changes: SubscriptionUpdate
    ) -> dict[str, Any]:
        """Change the URL, the filter or both."""
        selection = changes.wanted.to_filter() if changes.wanted is not None else None
        return _to_json(await service.update(caller.workspace, name, changes.url, selection))

    @routes.delete("/{name}", status_code=204)
    async def delete(caller: SubscriptionManager, name: Name) -> None:
        """Delete a subscription with its waiting messages and its delivery log."""
        await service.delete(caller.workspace, name)

    @routes.post("/{name}/pause")
    async def pause(caller: SubscriptionManager, name: Name) -> dict[str, Any]:
        """Stop deliveries until `resume`; no message is lost meanwhile."""
        return _to_json(await service.pause(caller.workspace, name))

    @routes.post("/{name}/resume")
    async def resume(caller: SubscriptionManager, name: Name) -> dict[str, Any]:
        """Resume deliveries at the cursor, also of a disabled subscription."""
        return _to_json(await service.resume(caller.workspace, name))

    @routes.post("/{name}/secret")
    async def rotate_secret(
        caller: SubscriptionManager, name: Name, rotation: SecretRotation
    ) -> dict[str, Any]:
        """Sign with a new `secret`, and for `overlap` with the old one as well."""
        return _to_json(await service.rotate_secret(caller.workspace, name, rotation.overlap))

    @routes.post("/{name}/resend")
    async def resend(
        caller: SubscriptionManager, name: Name, request: ResendRequest
    ) -> dict[str, Any]:
        """Send messages again; receivers recognise a repeat by its `webhook-id`."""
        return _to_json(
            await service.resend(
                caller.workspace, name, message=request.message, since=request.since
            )
        )

    return routes


def _to_json(view: SubscriptionView) -> dict[str, Any]:
    body: dict[str, Any] = msgspec.to_builtins(view)
    return body
