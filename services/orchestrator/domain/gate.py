"""The gate that every action passes: may it go out, now? Every refusal has its reason."""

from datetime import UTC, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Rules(msgspec.Struct, frozen=True):
    """The workspace's rules. Quiet hours are local times; both None: off."""

    cap_per_day: int = 3
    quiet_from: time | None = None
    quiet_to: time | None = None


class Facts(msgspec.Struct, frozen=True):
    """What is known of the contact when the action is due."""

    purpose: str
    address: str | None
    consent: bool | None
    suppressed: str | None
    used_today: int
    held_out: bool = False
    time_zone: str = "UTC"


class Verdict(msgspec.Struct, frozen=True):
    """`send` lets it out; `held` names the next allowed instant."""

    status: Literal["send", "held", "suppressed", "capped", "holdout", "skipped"]
    reason: str
    until: int = 0


def judge(facts: Facts, rules: Rules, now: int) -> Verdict:
    """Return the verdict at `now` (microseconds UTC). The order is from the lasting reasons to the passing ones."""
    if facts.held_out:
        return Verdict("holdout", "holdout")
    if facts.suppressed:
        return Verdict("suppressed", facts.suppressed)
    if facts.purpose == "marketing" and not facts.consent:
        return Verdict("suppressed", "no_consent" if facts.consent is None else "consent_withdrawn")
    if not facts.address:
        return Verdict("skipped", "no_address")
    if facts.used_today >= rules.cap_per_day:
        return Verdict("capped", f"cap_of_{rules.cap_per_day}_per_day")
    allowed = next_allowed(now, rules, facts.time_zone)
    if allowed > now:
        return Verdict("held", "quiet_hours", allowed)
    return Verdict("send", "allowed")


def next_allowed(now: int, rules: Rules, time_zone: str) -> int:
    """Return the first instant from `now` on that lies outside the quiet hours of the time zone."""
    if rules.quiet_from is None or rules.quiet_to is None:
        return now
    zone = _zone(time_zone)
    local = (_EPOCH + timedelta(microseconds=now)).astimezone(zone)
    clock, begin, end = local.time(), rules.quiet_from, rules.quiet_to
    quiet = begin <= clock < end if begin <= end else clock >= begin or clock < end
    if not quiet:
        return now
    day = local.date() + timedelta(days=1 if clock >= end else 0)
    over = datetime.combine(day, end, tzinfo=zone)
    return (over.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        return ZoneInfo("UTC")
