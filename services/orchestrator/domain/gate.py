"""The gate that every action passes: may it go out, now? Every refusal has its reason."""

from datetime import time, timedelta
from typing import Literal

import msgspec

from services.orchestrator.domain.local_time import load_time_zone, local_instant, to_local

Purpose = Literal["marketing", "transactional", "retargeting"]
"""What somebody is written to for; `retargeting` writes to nobody, it lets an advertiser know them."""


class GateRules(msgspec.Struct, frozen=True):
    """The workspace's rules. Caps count marketing per contact and channel; quiet hours are local times; both None: off."""

    cap_per_day: int = 3
    cap_per_week: int = 10
    quiet_from: time | None = None
    quiet_to: time | None = None


class GateRequest(msgspec.Struct, frozen=True):
    """What is known when an action is due."""

    purpose: Purpose
    address: str | None
    consent: bool | None
    suppressed: str | None
    used_today: int
    used_this_week: int = 0
    time_zone: str = "UTC"
    stopped: str = ""
    """Why nothing goes out now: a play that is paused, a switch that somebody has turned."""
    unfit: str = ""
    """Why its content is not right for the contact."""


class GateVerdict(msgspec.Struct, frozen=True):
    """`send` lets it out; `held` names the next allowed instant (0: when somebody lets it go)."""

    status: Literal["send", "held", "suppressed", "capped", "skipped"]
    reason: str
    until: int = 0


def check_gate(ask: GateRequest, rules: GateRules, now: int) -> GateVerdict:
    """Return the verdict at `now` (µs UTC). The order is from the lasting reasons to the passing ones.

    What somebody has asked for (`transactional`: a receipt, a password) waits for no morning and counts against no cap.
    """
    marketing = ask.purpose == "marketing"
    if ask.suppressed:
        return GateVerdict("suppressed", ask.suppressed)
    if ask.purpose != "transactional" and not ask.consent:
        return GateVerdict(
            "suppressed", "no_consent" if ask.consent is None else "consent_withdrawn"
        )
    if not ask.address:
        return GateVerdict("skipped", "no_address")
    if ask.stopped:
        return GateVerdict("held", ask.stopped)
    if ask.unfit:
        return GateVerdict("skipped", ask.unfit)
    if marketing and ask.used_today >= rules.cap_per_day:
        return GateVerdict("capped", f"cap_of_{rules.cap_per_day}_per_day")
    if marketing and ask.used_this_week >= rules.cap_per_week:
        return GateVerdict("capped", f"cap_of_{rules.cap_per_week}_per_week")
    allowed = next_allowed_at(now, rules, ask.time_zone) if marketing else now
    if allowed > now:
        return GateVerdict("held", "quiet_hours", allowed)
    return GateVerdict("send", "allowed")


def next_allowed_at(now: int, rules: GateRules, time_zone: str) -> int:
    """Return the first instant from `now` on that lies outside the quiet hours of the time zone."""
    if rules.quiet_from is None or rules.quiet_to is None:
        return now
    zone = load_time_zone(time_zone)
    moment = to_local(now, zone)
    clock, begin, end = moment.time(), rules.quiet_from, rules.quiet_to
    quiet = begin <= clock < end if begin <= end else clock >= begin or clock < end
    if not quiet:
        return now
    over = local_instant(moment.date() + timedelta(days=1 if clock >= end else 0), end, zone)
    return max(over, now + 1)
