"""Whether somebody was really sent by a friend."""

import re

from services.orchestrator.domain.contact_facts import ContactFacts

REFERRED_SIGNAL = "referred"
"""The published signal of somebody who came by a friend's link, or used a friend's code."""
CODE_PROPERTY = "referral_code"
CONVERTED_EVENT = "Referral Converted"
"""What is told of the one who recommended us, when the friend has bought."""


_CODE = re.compile("[a-z2-7]{10}")


def parse_code(said: object) -> str | None:
    """Return the code that somebody brings, None for what can be none."""
    found = said.strip().lower() if isinstance(said, str) and len(said) < 100 else ""
    return found if _CODE.fullmatch(found) else None


def referral_fault(
    referrer: ContactFacts, friend: ContactFacts, success: str, came_at: int, *, same_device: bool
) -> str:
    """Return why a success of the friend is no merit of the referrer, or nothing. `came_at` in µs UTC."""
    if (
        same_device
        or referrer.contact_id == friend.contact_id
        or _mailbox(referrer.email) == (_mailbox(friend.email) or "")
    ):
        return "self_referral"
    if any(at < came_at for at in friend.signals.get(success, ())):
        return "was a customer before"
    return ""


def _mailbox(address: str | None) -> str | None:
    """Return whose mailbox an address is, without the tag that mail servers ignore (RFC 5233)."""
    name, at, host = (address or "").strip().lower().partition("@")
    return f"{name.partition('+')[0]}@{host}" if at else None
