"""Resend's webhooks: `{type, created_at, data}`, signed by Standard Webhooks.

Source: Resend documentation, "Webhooks".
"""

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
_NOT_FINAL = frozenset(("email.sent", "email.scheduled", "email.delivery_delayed"))


def verify_signature(hook: WebhookRequest, _document: Any, secret: str, now: int) -> None:
    """Raise InvalidWebhookSignature unless Resend signed the request."""
    signatures.verify_standard_webhook(
        hook, secret, now, prefix="webhook" if "webhook-id" in hook.headers else "svix"
    )


def to_calls(event: Any, _settings: Settings) -> list[Call]:
    """Return a call for each recipient of the e-mail."""
    kind = require_text(event, "type")
    if kind in _NOT_FINAL or optional_text(event, "data", "bounce", "type") == "Transient":
        return []
    if kind not in _EVENTS:
        raise unknown_event(kind, _EVENTS)
    email_id, at = require_text(event, "data", "email_id"), require_text(event, "created_at")
    to = require(event, "data", "to")
    data = event["data"]
    if isinstance(to, list) and len(to) > 1 and _EVENTS[kind] != email_events.DELIVERED:
        raise InvalidMessage(
            "ambiguous", f"{kind} of an e-mail to {len(to)} recipients does not name the recipient"
        )
    return [
        email_events.email_event_call(
            _EVENTS[kind],
            "resend",
            f"{kind}:{email_id}:{address}:{at}",
            address,
            at,
            agent=optional_text(data, "click", "userAgent"),
            email_id=email_id,
            email_subject=optional_text(data, "subject"),
            link_url=optional_text(data, "click", "link"),
            reason=optional_text(data, "bounce", "message"),
        )
        for address in (to if isinstance(to, list) else [to])
        if isinstance(address, str)
    ]


ADAPTER = Adapter(to_calls, verify_signature=verify_signature)
