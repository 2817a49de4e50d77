"""Postmark's webhooks. Source: Postmark developer documentation, "Webhooks". They are not signed: the write key proves them."""

from hashlib import sha256
from typing import Any

from services.ingest.adapters import (
    Adapter,
    Call,
    Settings,
    email_events,
    optional_text,
    require_text,
    unknown_event,
)

_EVENTS = {
    "Delivery": (email_events.DELIVERED, "DeliveredAt"),
    "Open": (email_events.OPENED, "ReceivedAt"),
    "Click": (email_events.CLICKED, "ReceivedAt"),
    "Bounce": (email_events.BOUNCED, "BouncedAt"),
    "SpamComplaint": (email_events.COMPLAINED, "BouncedAt"),
    "SubscriptionChange": (email_events.UNSUBSCRIBED, "ChangedAt"),
}
_SUPPRESSED = {"HardBounce": email_events.BOUNCED, "SpamComplaint": email_events.COMPLAINED}
"""Why Postmark ended a subscription by itself; with any other reason the person did."""
_FOR_GOOD = frozenset(("HardBounce", "BadEmailAddress", "ManuallyDeactivated"))
"""The bounces after which no letter to this address arrives; the others are about the moment, or the letter."""


def to_calls(event: Any, _settings: Settings) -> list[Call]:
    """Return the event's call."""
    kind = require_text(event, "RecordType")
    if kind not in _EVENTS:
        raise unknown_event(kind, _EVENTS)
    if (kind == "Bounce" and optional_text(event, "Type") not in _FOR_GOOD) or event.get(
        "SuppressSending"
    ) is False:
        return []
    name, moment = _EVENTS[kind]
    name = _SUPPRESSED.get(optional_text(event, "SuppressionReason"), name)
    at, recipient = (
        require_text(event, moment),
        optional_text(event, "Recipient") or require_text(event, "Email"),
    )
    whom = sha256(recipient.strip().lower().encode()).hexdigest()[
        :12
    ]  # ids are no place for addresses
    # Most events have no number of their own: the letter's, the kind, the instant and the recipient are one.
    number = optional_text(event, "ID") or f"{kind}:{require_text(event, 'MessageID')}:{at}:{whom}"
    found = email_events.email_event_call(
        name, "postmark", number, recipient, at, agent=optional_text(event, "UserAgent"),
        email_id=optional_text(event, "MessageID"), email_subject=optional_text(event, "Subject"), link_url=optional_text(event, "OriginalLink"),
        reason=optional_text(event, "Description") or optional_text(event, "SuppressionReason"), campaign_name=optional_text(event, "Tag"),
    )  # fmt: skip
    return [found]


ADAPTER = Adapter(to_calls)
