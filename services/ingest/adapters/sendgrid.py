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
_OF_THE_ADDRESS = ("Bounced Address", "Invalid", "Spam Reporting Address", "Unsubscribed Address")
"""Why letters are dropped that no letter to this address will reach it; other reasons are the letter's, or the account's."""


def check(hook: Hook, _document: Any, secret: str, now: int) -> None:
    """Raise BadSignature unless SendGrid signed it."""
    signatures.sendgrid(hook, secret, now)


def calls(event: Any, _settings: Settings) -> list[Call]:
    """Return the event's call."""
    kind = need_text(event, "event")
    if kind in _ON_ITS_WAY or _passes(event, kind):
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


def _passes(event: Any, kind: str) -> bool:
    """Return whether a letter did not arrive for a reason that says nothing of the next one."""
    if kind == "dropped":
        return text(event, "reason") not in _OF_THE_ADDRESS
    return kind == "bounce" and text(event, "type") == "blocked"


ADAPTER = Adapter(calls, check=check)
