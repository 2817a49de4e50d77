"""Mailgun's webhooks: `{signature, event-data}`.

Source: Mailgun documentation, "Webhooks" and "Events".
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
    "opened": email_events.OPENED,
    "clicked": email_events.CLICKED,
    "failed": email_events.BOUNCED,
    "complained": email_events.COMPLAINED,
    "unsubscribed": email_events.UNSUBSCRIBED,
}


def verify_signature(_hook: WebhookRequest, document: Any, secret: str, now: int) -> None:
    """Raise InvalidWebhookSignature unless Mailgun signed the document, which has the signature."""
    signatures.verify_mailgun(
        {name: optional_text(document, "signature", name) for name in signatures.MAILGUN_FIELDS},
        secret,
        now,
    )


def split_events(document: Any, _settings: Settings) -> list[Any]:
    """Return the one event of a request."""
    return [require(document, "event-data")]


def to_calls(event: Any, _settings: Settings) -> list[Call]:
    """Return the event's call."""
    kind = require_text(event, "event")
    if kind == "accepted" or (kind == "failed" and optional_text(event, "severity") == "temporary"):
        return []  # not final: another event follows with the outcome
    if kind not in _EVENTS:
        raise unknown_event(kind, _EVENTS)
    at = require(event, "timestamp")
    if not isinstance(at, int | float):
        raise InvalidMessage("bad_event", "timestamp is not a number")
    call = email_events.email_event_call(
        _EVENTS[kind],
        "mailgun",
        require_text(event, "id"),
        require_text(event, "recipient"),
        format_seconds(at),
        agent=optional_text(event, "client-info", "user-agent"),
        machine=bool(optional_text(event, "client-info", "bot")),
        email_id=optional_text(event, "message", "headers", "message-id"),
        email_subject=optional_text(event, "message", "headers", "subject"),
        link_url=optional_text(event, "url"),
        reason=optional_text(event, "reason"),
        tags=event.get("tags"),
    )
    return [call]


ADAPTER = Adapter(to_calls, split_events, verify_signature)
