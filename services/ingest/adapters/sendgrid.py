"""SendGrid's event webhook: a list of flat events.

Source: Twilio SendGrid documentation, "Event Webhook Reference".
"""

from typing import Any

from libs.common.errors import InvalidMessage
from services.ingest.adapters import (
    Adapter,
    Call,
    Settings,
    WebhookRequest,
    email_events,
    format_seconds,
    optional_text,
    require,
    require_text,
    signatures,
    unknown_event,
)

_EVENTS = {
    "delivered": email_events.DELIVERED,
    "open": email_events.OPENED,
    "click": email_events.CLICKED,
    "bounce": email_events.BOUNCED,
    "dropped": email_events.BOUNCED,
    "spamreport": email_events.COMPLAINED,
    "unsubscribe": email_events.UNSUBSCRIBED,
    "group_unsubscribe": email_events.UNSUBSCRIBED,
}
_NOT_FINAL = frozenset(("processed", "deferred", "group_resubscribe"))
_ADDRESS_REASONS = ("Bounced Address", "Invalid", "Spam Reporting Address", "Unsubscribed Address")
"""Reasons for a drop after which no e-mail reaches the address.

Other reasons concern one e-mail, or the sender's account.
"""


def verify_signature(hook: WebhookRequest, _document: Any, secret: str, now: int) -> None:
    """Raise InvalidWebhookSignature unless SendGrid signed the request."""
    signatures.verify_sendgrid(hook, secret, now)


def to_calls(event: Any, _settings: Settings) -> list[Call]:
    """Return the event's call."""
    kind = require_text(event, "event")
    if kind in _NOT_FINAL or _is_temporary(event, kind):
        return []
    if kind not in _EVENTS:
        raise unknown_event(kind, _EVENTS)
    at = require(event, "timestamp")
    if not isinstance(at, int):
        raise InvalidMessage("bad_event", "timestamp is not a number")
    call = email_events.email_event_call(
        _EVENTS[kind],
        "sendgrid",
        require_text(event, "sg_event_id"),
        require_text(event, "email"),
        format_seconds(at),
        agent=optional_text(event, "useragent"),
        machine=event.get("sg_machine_open") is True,
        email_id=optional_text(event, "sg_message_id"),
        link_url=optional_text(event, "url"),
        reason=optional_text(event, "reason"),
        campaign_name=optional_text(event, "marketing_campaign_name"),
        tags=event.get("category"),
    )
    return [call]


def _is_temporary(event: Any, kind: str) -> bool:
    """Return whether the failure does not concern the next e-mail to the address."""
    if kind == "dropped":
        return optional_text(event, "reason") not in _ADDRESS_REASONS
    return kind == "bounce" and optional_text(event, "type") == "blocked"


ADAPTER = Adapter(to_calls, verify_signature=verify_signature)
