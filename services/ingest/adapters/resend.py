"""Resend's webhooks. Source: Resend documentation, "Webhooks": `{type, created_at, data}`, signed as Standard Webhooks says."""

from typing import Any

from libs.common.errors import InvalidMessage
from services.ingest.adapters import (
    Adapter,
    Call,
    Settings,
    WebhookRequest,
    email_events,
    optional_text,
    require,
    require_text,
    signatures,
    unknown_event,
)

_EVENTS = {
    "email.delivered": email_events.DELIVERED,
    "email.opened": email_events.OPENED,
    "email.clicked": email_events.CLICKED,
    "email.bounced": email_events.BOUNCED,
    "email.complained": email_events.COMPLAINED,
}
_ON_ITS_WAY = frozenset(("email.sent", "email.scheduled", "email.delivery_delayed"))


def verify_signature(hook: WebhookRequest, _document: Any, secret: str, now: int) -> None:
    """Raise InvalidWebhookSignature unless Resend signed it."""
    signatures.verify_standard_webhook(
        hook, secret, now, prefix="webhook" if "webhook-id" in hook.headers else "svix"
    )


def to_calls(event: Any, _settings: Settings) -> list[Call]:
    """Return a call for each mailbox that the letter went to."""
    kind = require_text(event, "type")
    if kind in _ON_ITS_WAY or optional_text(event, "data", "bounce", "type") == "Transient":
        return []
    if kind not in _EVENTS:
        raise unknown_event(kind, _EVENTS)
    letter, at = require_text(event, "data", "email_id"), require_text(event, "created_at")
    to = require(event, "data", "to")
    data = event["data"]
    if isinstance(to, list) and len(to) > 1 and _EVENTS[kind] != email_events.DELIVERED:
        raise InvalidMessage(
            "ambiguous", f"{kind} of a letter to {len(to)} mailboxes says not whose doing it was"
        )
    return [
        email_events.email_event_call(
            _EVENTS[kind], "resend", f"{kind}:{letter}:{address}:{at}", address, at, agent=optional_text(data, "click", "userAgent"),
            email_id=letter, email_subject=optional_text(data, "subject"), link_url=optional_text(data, "click", "link"),
            reason=optional_text(data, "bounce", "message"),
        )
        for address in (to if isinstance(to, list) else [to])
        if isinstance(address, str)
    ]  # fmt: skip


ADAPTER = Adapter(to_calls, verify_signature=verify_signature)
