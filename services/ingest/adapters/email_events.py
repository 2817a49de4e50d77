"""The track call of an e-mail event, shared by the adapters of all mail providers.

Event names are those of Segment's e-mail specification. Opens by machines (privacy proxies,
scanners) are no act of the contact: they are flagged and score nothing.
"""

from hashlib import sha256
from typing import Any

from services.ingest.adapters import Call

MACHINE_OPENS = ("googleimageproxy", "yahoomailproxy", "ggpht.com")
DELIVERED, OPENED, CLICKED = "Email Delivered", "Email Opened", "Email Link Clicked"
BOUNCED, COMPLAINED, UNSUBSCRIBED = "Email Bounced", "Email Marked as Spam", "Unsubscribed"
_CONTACT_EVENTS = frozenset((OPENED, CLICKED, COMPLAINED, UNSUBSCRIBED))


def email_event_call(
    event: str,
    provider: str,
    event_id: str,
    address: str,
    at: Any,
    *,
    agent: str = "",
    machine: bool = False,
    **properties: Any,
) -> Call:
    """Return the call of an event; `event_id` is the provider's, empty properties are left out."""
    address = address.strip().lower()
    # Identifies the mailbox for readers that must not see the address.
    properties["email_sha256"] = sha256(address.encode()).hexdigest()
    is_apple_proxy = agent == "Mozilla/5.0"  # the user agent of Apple's Mail Privacy Protection
    is_machine_open = event == OPENED and (
        machine or is_apple_proxy or any(word in agent.lower() for word in MACHINE_OPENS)
    )
    return {
        "type": "track",
        "event": event,
        "messageId": f"{provider}:{event_id}",
        "timestamp": at,
        "properties": {
            name: value for name, value in properties.items() if value not in (None, "", [])
        },
        "context": {
            "channel": "email",
            "initiative": "contact" if event in _CONTACT_EVENTS else "brand",
            # The provider names the mailbox, so the address is verified.
            "traits": {"email": address, "email_verified": True},
            "userAgent": agent,
            "machine": is_machine_open,
        },
    }
