"""Resend's webhooks. Source: Resend documentation, "Webhooks": `{type, created_at, data}`, signed as Standard Webhooks says."""

from typing import Any

from libs.common.errors import InvalidMessage
from services.ingest.adapters import Adapter, Call, Hook, Settings, mail, need, need_text, signatures, text, unknown

_EVENTS = {
    "email.delivered": mail.DELIVERED,
    "email.opened": mail.OPENED,
    "email.clicked": mail.CLICKED,
    "email.bounced": mail.BOUNCED,
    "email.complained": mail.COMPLAINED,
}
_ON_ITS_WAY = frozenset(("email.sent", "email.scheduled", "email.delivery_delayed"))


def check(hook: Hook, _document: Any, secret: str, now: int) -> None:
    """Raise BadSignature unless Resend signed it."""
    signatures.standard(hook, secret, now, prefix="webhook" if "webhook-id" in hook.headers else "svix")


def calls(event: Any, _settings: Settings) -> list[Call]:
    """Return a call for each mailbox that the letter went to."""
    kind = need_text(event, "type")
    if kind in _ON_ITS_WAY or text(event, "data", "bounce", "type") == "Transient":
        return []
    if kind not in _EVENTS:
        raise unknown(kind, _EVENTS)
    letter, at = need_text(event, "data", "email_id"), need_text(event, "created_at")
    to = need(event, "data", "to")
    data = event["data"]
    if isinstance(to, list) and len(to) > 1 and _EVENTS[kind] != mail.DELIVERED:
        raise InvalidMessage("ambiguous", f"{kind} of a letter to {len(to)} mailboxes says not whose doing it was")
    return [
        mail.call(
            _EVENTS[kind], "resend", f"{kind}:{letter}:{address}:{at}", address, at, agent=text(data, "click", "userAgent"),
            email_id=letter, email_subject=text(data, "subject"), link_url=text(data, "click", "link"),
            reason=text(data, "bounce", "message"),
        )
        for address in (to if isinstance(to, list) else [to])
        if isinstance(address, str)
    ]  # fmt: skip


ADAPTER = Adapter(calls, check=check)
