"""Postmark's webhooks. Source: Postmark developer documentation, "Webhooks".

They are not signed: the write key authenticates them.
"""

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
_SUPPRESSION_EVENTS = {"HardBounce": email_events.BOUNCED, "SpamComplaint": email_events.COMPLAINED}
"""Event by the reason for which Postmark ended a subscription; else the contact unsubscribed."""
_PERMANENT_BOUNCES = frozenset(("HardBounce", "BadEmailAddress", "ManuallyDeactivated"))
"""Bounces after which no e-mail reaches the address; others concern the moment or one e-mail."""


def to_calls(event: Any, _settings: Settings) -> list[Call]:
    """Return the event's call."""
    kind = require_text(event, "RecordType")
    if kind not in _EVENTS:
        raise unknown_event(kind, _EVENTS)
    if (kind == "Bounce" and optional_text(event, "Type") not in _PERMANENT_BOUNCES) or event.get(
        "SuppressSending"
    ) is False:
        return []
    name, time_field = _EVENTS[kind]
    name = _SUPPRESSION_EVENTS.get(optional_text(event, "SuppressionReason"), name)
    at = require_text(event, time_field)
    recipient = optional_text(event, "Recipient") or require_text(event, "Email")
    # A digest, because ids must not contain addresses.
    digest = sha256(recipient.strip().lower().encode()).hexdigest()[:12]
    # Most events have no id: kind, e-mail, instant and recipient identify them.
    event_id = (
        optional_text(event, "ID") or f"{kind}:{require_text(event, 'MessageID')}:{at}:{digest}"
    )
    call = email_events.email_event_call(
        name,
        "postmark",
        event_id,
        recipient,
        at,
        agent=optional_text(event, "UserAgent"),
        email_id=optional_text(event, "MessageID"),
        email_subject=optional_text(event, "Subject"),
        link_url=optional_text(event, "OriginalLink"),
        reason=optional_text(event, "Description") or optional_text(event, "SuppressionReason"),
        campaign_name=optional_text(event, "Tag"),
    )
    return [call]


ADAPTER = Adapter(to_calls)
