"""Why act now: a reason with a date, an owner and a consequence; about a contact, an account or a whole market."""

from typing import Any, ClassVar, Literal

import msgspec

EventScope = Literal["contact", "account", "market"]
EventStatus = Literal["raised", "updated", "nearing", "withdrawn", "expired"]


class CompellingEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """One turn in the life of a compelling event. `id` is this message's, `event_id` the event's; `version` counts the turns.

    `nearing` comes once for each threshold before the date (`left`, in microseconds). It is keyed by contact or account, or by
    its own id when it concerns a market.
    """

    KIND: ClassVar[str] = "perigee.compelling-event.v1"
    TOPIC: ClassVar[str] = "compelling-events"

    id: str
    event_id: str
    workspace: str
    kind: str
    scope: EventScope
    status: EventStatus
    version: int
    occurred_at: int
    contact_id: str | None = None
    account_id: str | None = None
    date: int | None = None
    left: int | None = None
    owner: str = ""
    consequence: str = ""
    cause: str = ""
    properties: dict[str, Any] = {}
