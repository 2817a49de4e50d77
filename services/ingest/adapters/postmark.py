"""Postmark's webhooks. Source: Postmark developer documentation, "Webhooks". They are not signed: the write key proves them."""

from hashlib import sha256
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
_SUPPRESSED = {"HardBounce": mail.BOUNCED, "SpamComplaint": mail.COMPLAINED}
"""Why Postmark ended a subscription by itself; with any other reason the person did."""
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
    name = _SUPPRESSED.get(text(event, "SuppressionReason"), name)
    at, recipient = need_text(event, moment), text(event, "Recipient") or need_text(event, "Email")
    whom = sha256(recipient.strip().lower().encode()).hexdigest()[:12]  # ids are no place for addresses
    # Most events have no number of their own: the letter's, the kind, the instant and the recipient are one.
    number = text(event, "ID") or f"{kind}:{need_text(event, 'MessageID')}:{at}:{whom}"
    found = mail.call(
        name, "postmark", number, recipient, at, agent=text(event, "UserAgent"),
        email_id=text(event, "MessageID"), email_subject=text(event, "Subject"), link_url=text(event, "OriginalLink"),
        reason=text(event, "Description") or text(event, "SuppressionReason"), campaign_name=text(event, "Tag"),
    )  # fmt: skip
    return [found]


ADAPTER = Adapter(calls)
