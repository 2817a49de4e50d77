"""SendGrid's event webhook. Source: Twilio SendGrid documentation, "Event Webhook Reference": a list of flat events."""

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
_ON_ITS_WAY = frozenset(("processed", "deferred", "group_resubscribe"))
_OF_THE_ADDRESS = ("Bounced Address", "Invalid", "Spam Reporting Address", "Unsubscribed Address")
"""Why letters are dropped that no letter to this address will reach it; other reasons are the letter's, or the account's."""


def verify_signature(hook: WebhookRequest, _document: Any, secret: str, now: int) -> None:
    """Raise InvalidWebhookSignature unless SendGrid signed it."""
    signatures.verify_sendgrid(hook, secret, now)


def to_calls(event: Any, _settings: Settings) -> list[Call]:
    """Return the event's call."""
    kind = require_text(event, "event")
    if kind in _ON_ITS_WAY or _passes(event, kind):
        return []
    if kind not in _EVENTS:
        raise unknown_event(kind, _EVENTS)
    at = require(event, "timestamp")
    if not isinstance(at, int):
        raise InvalidMessage("bad_event", "timestamp is no number")
    found = email_events.email_event_call(
        _EVENTS[kind], "sendgrid", require_text(event, "sg_event_id"), require_text(event, "email"), format_seconds(at),
        agent=optional_text(event, "useragent"), machine=event.get("sg_machine_open") is True,
        email_id=optional_text(event, "sg_message_id"), link_url=optional_text(event, "url"), reason=optional_text(event, "reason"),
        campaign_name=optional_text(event, "marketing_campaign_name"), tags=event.get("category"),
    )  # fmt: skip
    return [found]


def _passes(event: Any, kind: str) -> bool:
    """Return whether a letter did not arrive for a reason that says nothing of the next one."""
    if kind == "dropped":
        return optional_text(event, "reason") not in _OF_THE_ADDRESS
    return kind == "bounce" and optional_text(event, "type") == "blocked"


ADAPTER = Adapter(to_calls, verify_signature=verify_signature)
