"""Whether somebody was really sent by a friend."""

from services.orchestrator.domain.facts import Facts

CAME = "referred"
"""The published signal of somebody who came by a friend's link, or used a friend's code."""
PROPERTY = "referral_code"
CONVERTED = "Referral Converted"
"""What is told of the one who recommended us, when the friend has bought."""


def refusal(referrer: Facts | None, friend: Facts, success: str, came_at: int) -> str:
    """Return why a success of the friend is no merit of the referrer, or nothing. `came_at` in µs UTC."""
    if referrer is None:
        return "unknown code"
    if referrer.contact_id == friend.contact_id or (referrer.email and _same(referrer.email, friend.email)):
        return "self_referral"
    if any(at < came_at for at in friend.signals.get(success, ())):
        return "was a customer before"
    return ""


def _same(one: str, other: str | None) -> bool:
    return other is not None and one.strip().lower() == other.strip().lower()
