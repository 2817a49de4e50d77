"""Postmark's webhooks. Source: Postmark developer documentation, "Webhooks". They are not signed: the write key proves them."""

from typing import Any

from services.ingest.adapters import Adapter, Call, Settings, mail, need_text, text, unknown

_EVENTS = {
    "Delivery": (mail.DELIVERED, "DeliveredAt"),
    "Open": (mail.OPENED, "ReceivedAt"),
    "Click": (mail.CLICKED, "ReceivedAt"),
    "Bounce": (mail.BOUNCED, "BouncedAt"),
    "SpamComplaint": (mail.COMPLAINED, "BouncedAt"),
    "SubscriptionChange": (mail.UNSUBSCRIBED, "ChangedAt"),
}
_FOR_GOOD = frozenset(("HardBounce", "BadEmailAddress", "ManuallyDeactivated"))
"""The bounces after which no letter to this address arrives; the others are about the moment, or the letter."""


def calls(event: Any, _settings: Settings) -> list[Call]:
    """Return the event's call."""
    kind = need_text(event, "RecordType")
    if kind not in _EVENTS:
        raise unknown(kind, _EVENTS)
    if (kind == "Bounce" and text(event, "Type") not in _FOR_GOOD) or event.get("SuppressSending") is False:
        return []
    name, moment = _EVENTS[kind]
    at = need_text(event, moment)
    # Opens and clicks have no number of their own: the letter's, the kind and the instant are one.
    number = text(event, "ID") or f"{kind}:{need_text(event, 'MessageID')}:{at}"
    found = mail.call(
        name, "postmark", number, text(event, "Recipient") or need_text(event, "Email"), at, agent=text(event, "UserAgent"),
        email_id=text(event, "MessageID"), email_subject=text(event, "Subject"), link_url=text(event, "OriginalLink"),
        reason=text(event, "Description") or text(event, "SuppressionReason"), campaign_name=text(event, "Tag"),
    )  # fmt: skip
    return [found]


ADAPTER = Adapter(calls)
