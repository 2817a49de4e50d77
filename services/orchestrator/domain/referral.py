"""Validity of referrals: a friend's success counts for the referrer unless a fault applies."""

import re

from services.orchestrator.domain.contact_facts import ContactFacts

REFERRED_SIGNAL = "referred"
"""The published signal of a contact that used a friend's link or code."""
CODE_PROPERTY = "referral_code"
CONVERTED_EVENT = "Referral Converted"
"""The event recorded for the referrer when the friend has bought."""
_CODE = re.compile("[a-z2-7]{10}")


def parse_code(value: object) -> str | None:
    """Return the referral code in a property, None if it is not a valid code."""
    code = value.strip().lower() if isinstance(value, str) and len(value) < 100 else ""
    return code if _CODE.fullmatch(code) else None


def referral_fault(
    referrer: ContactFacts, friend: ContactFacts, success: str, came_at: int, *, same_device: bool
) -> str:
    """Return the reason why a friend's success does not count for the referrer, or an empty string.

    `came_at` is the instant of the friend's arrival (µs UTC).
    """
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
    """Return the mailbox of an address, without the subaddress (RFC 5233)."""
    name, at, host = (address or "").strip().lower().partition("@")
    return f"{name.partition('+')[0]}@{host}" if at else None
