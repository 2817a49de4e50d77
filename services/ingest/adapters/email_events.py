"""What the mail providers' adapters share: one call for what became of a letter, whoever tells it.

Event names are those of Segment's e-mail specification. Opens by machines (privacy proxies, scanners) say nothing of a person:
they are marked, and score nothing.
"""

from hashlib import sha256
from typing import Any

from services.ingest.adapters import Call

MACHINE_OPENS = ("googleimageproxy", "yahoomailproxy", "ggpht.com")
DELIVERED, OPENED, CLICKED = "Email Delivered", "Email Opened", "Email Link Clicked"
BOUNCED, COMPLAINED, UNSUBSCRIBED = "Email Bounced", "Email Marked as Spam", "Unsubscribed"
_BY_THE_PERSON = frozenset((OPENED, CLICKED, COMPLAINED, UNSUBSCRIBED))


def email_event_call(
    event: str,
    provider: str,
    number: str,
    address: str,
    at: Any,
    *,
    agent: str = "",
    machine: bool = False,
    **about: Any,
) -> Call:
    """Return the call of an event that the provider names `number`; `about` are properties, empty ones left out."""
    address = address.strip().lower()
    about["email_sha256"] = sha256(
        address.encode()
    ).hexdigest()  # whose mailbox it was, also to those who must not know it
    apple = agent == "Mozilla/5.0"  # how Apple's Mail Privacy Protection says that it is no browser
    by_machine = event == OPENED and (
        machine or apple or any(word in agent.lower() for word in MACHINE_OPENS)
    )
    return {
        "type": "track",
        "event": event,
        "messageId": f"{provider}:{number}",
        "timestamp": at,
        "properties": {name: value for name, value in about.items() if value not in (None, "", [])},
        "context": {
            "channel": "email",
            "initiative": "contact" if event in _BY_THE_PERSON else "brand",
            "traits": {
                "email": address,
                "email_verified": True,
            },  # it names whose mailbox this is about
            "userAgent": agent,
            "machine": by_machine,
        },
    }
