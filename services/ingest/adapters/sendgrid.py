"""SendGrid's event webhook. Source: Twilio SendGrid documentation, "Event Webhook Reference": a list of flat events."""

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
    "open": mail.OPENED,
    "click": mail.CLICKED,
    "bounce": mail.BOUNCED,
    "dropped": mail.BOUNCED,
    "spamreport": mail.COMPLAINED,
    "unsubscribe": mail.UNSUBSCRIBED,
    "group_unsubscribe": mail.UNSUBSCRIBED,
}
_ON_ITS_WAY = frozenset(("processed", "deferred", "group_resubscribe"))


def check(hook: Hook, _document: Any, secret: str, now: int) -> None:
    """Raise BadSignature unless SendGrid signed it."""
    signatures.sendgrid(hook, secret, now)


def calls(event: Any, _settings: Settings) -> list[Call]:
    """Return the event's call."""
    kind = need_text(event, "event")
    if kind in _ON_ITS_WAY:
        return []
    if kind not in _EVENTS:
        raise unknown(kind, _EVENTS)
    at = need(event, "timestamp")
    if not isinstance(at, int):
        raise InvalidMessage("bad_event", "timestamp is no number")
    found = mail.call(
        _EVENTS[kind], "sendgrid", need_text(event, "sg_event_id"), need_text(event, "email"), instant(at),
        agent=text(event, "useragent"), machine=event.get("sg_machine_open") is True,
        email_id=text(event, "sg_message_id"), link_url=text(event, "url"), reason=text(event, "reason"),
        campaign_name=text(event, "marketing_campaign_name"), tags=event.get("category"),
    )  # fmt: skip
    return [found]


ADAPTER = Adapter(calls, check=check)
