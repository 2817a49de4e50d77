"""Mailgun's webhooks. Source: Mailgun documentation, "Webhooks" and "Events": `{signature, event-data}`."""

from typing import Any

from libs.common.errors import InvalidMessage
from services.ingest.adapters import (
    Adapter,
    Call,
    Hook,
    Settings,
    instant,
    mail,
    need,
    need_text,
    signatures,
    text,
    unknown,
)

_EVENTS = {
    "delivered": mail.DELIVERED,
    "opened": mail.OPENED,
    "clicked": mail.CLICKED,
    "failed": mail.BOUNCED,
    "complained": mail.COMPLAINED,
    "unsubscribed": mail.UNSUBSCRIBED,
}


def check(_hook: Hook, document: Any, secret: str, now: int) -> None:
    """Raise BadSignature unless Mailgun signed it; the signature is part of the document."""
    signatures.mailgun({name: text(document, "signature", name) for name in signatures.MAILGUN}, secret, now)


def events(document: Any, _settings: Settings) -> list[Any]:
    """Return the one event of a request."""
    return [need(document, "event-data")]


def calls(event: Any, _settings: Settings) -> list[Call]:
    """Return the event's call."""
    kind = need_text(event, "event")
    if kind == "accepted" or (kind == "failed" and text(event, "severity") == "temporary"):
        return []  # on its way; the provider tells what becomes of it
    if kind not in _EVENTS:
        raise unknown(kind, _EVENTS)
    at = need(event, "timestamp")
    if not isinstance(at, int | float):
        raise InvalidMessage("bad_event", "timestamp is no number")
    found = mail.call(
        _EVENTS[kind], "mailgun", need_text(event, "id"), need_text(event, "recipient"), instant(at),
        agent=text(event, "client-info", "user-agent"), machine=bool(text(event, "client-info", "bot")),
        email_id=text(event, "message", "headers", "message-id"), email_subject=text(event, "message", "headers", "subject"),
        link_url=text(event, "url"), reason=text(event, "reason"), tags=event.get("tags"),
    )  # fmt: skip
    return [found]


ADAPTER = Adapter(calls, events, check)
