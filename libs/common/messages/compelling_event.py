"""Compelling events: a dated reason to act, about a contact, an account or a market."""

from typing import Any, ClassVar, Literal

import msgspec

from libs.common.ids import ContactId, WorkspaceId

EventScope = Literal["contact", "account", "market"]
EventStatus = Literal["raised", "updated", "nearing", "withdrawn", "expired"]


class CompellingEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """One status change of a compelling event; `version` counts the changes.

    `id` is the id of this message, `event_id` that of the event. Status `nearing` is sent once for
    each threshold before the date (`left`, in microseconds). The key is the contact or account, or
    the event id for a market.
    """

    KIND: ClassVar[str] = "perigee.compelling-event.v1"
    TOPIC: ClassVar[str] = "compelling-events"

    id: str
    event_id: str
    workspace: WorkspaceId
    kind: str
    scope: EventScope
    status: EventStatus
    version: int
    occurred_at: int
    contact_id: ContactId | None = None
    account_id: str | None = None
    date: int | None = None
    left: int | None = None
    owner: str = ""
    consequence: str = ""
    cause: str = ""
    properties: dict[str, Any] = {}
