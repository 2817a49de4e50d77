"""The gate: decides whether an action may be sent now; every refusal has a reason."""

from datetime import time, timedelta
from typing import Literal

import msgspec

from services.orchestrator.domain.local_time import load_time_zone, local_instant, to_local

Purpose = Literal["marketing", "transactional", "retargeting"]
"""The purpose of a message; `retargeting` adds the contact to an advertiser's audience."""


class GateRules(msgspec.Struct, frozen=True):
    """The workspace's rules.

    Caps count marketing messages per contact and channel. Quiet hours are local times of the
    contact; None disables them.
    """

    cap_per_day: int = 3
    cap_per_week: int = 10
    quiet_from: time | None = None
    quiet_to: time | None = None


class GateRequest(msgspec.Struct, frozen=True):
    """The state of a contact and a channel when an action is due."""

    purpose: Purpose
    address: str | None
    consent: bool | None
    suppressed: str | None
    used_today: int
    used_this_week: int = 0
    time_zone: str = "UTC"
    stopped: str = ""
    """Reason of a stop: a paused play or a stopped channel; empty if there is none."""
    unfit: str = ""
    """Reason why no content fits the contact; empty if it fits."""


class GateVerdict(msgspec.Struct, frozen=True):
    """The verdict; `held` has the next allowed instant (0: when an operator ends the stop)."""

    status: Literal["send", "held", "suppressed", "capped", "skipped"]
    reason: str
    until: int = 0


def check_gate(request: GateRequest, rules: GateRules, now: int) -> GateVerdict:
    """Return the verdict at `now` (µs UTC). Lasting reasons come before temporary ones.

    Transactional messages (a receipt, a password) ignore quiet hours and caps.
    """
    marketing = request.purpose == "marketing"
    if request.suppressed:
        return GateVerdict("suppressed", request.suppressed)
    if request.purpose != "transactional" and not request.consent:
        return GateVerdict(
            "suppressed", "no_consent" if request.consent is None else "consent_withdrawn"
        )
    if not request.address:
        return GateVerdict("skipped", "no_address")
    if request.stopped:
        return GateVerdict("held", request.stopped)
    if request.unfit:
        return GateVerdict("skipped", request.unfit)
    if marketing and request.used_today >= rules.cap_per_day:
        return GateVerdict("capped", f"cap_of_{rules.cap_per_day}_per_day")
    if marketing and request.used_this_week >= rules.cap_per_week:
        return GateVerdict("capped", f"cap_of_{rules.cap_per_week}_per_week")
    allowed = next_allowed_at(now, rules, request.time_zone) if marketing else now
    if allowed > now:
        return GateVerdict("held", "quiet_hours", allowed)
    return GateVerdict("send", "allowed")


def next_allowed_at(now: int, rules: GateRules, time_zone: str) -> int:
    """Return the first instant from `now` on outside the quiet hours of the time zone."""
    if rules.quiet_from is None or rules.quiet_to is None:
        return now
    zone = load_time_zone(time_zone)
    local = to_local(now, zone)
    clock, start, end = local.time(), rules.quiet_from, rules.quiet_to
    quiet = start <= clock < end if start <= end else clock >= start or clock < end
    if not quiet:
        return now
    end_day = local.date() + timedelta(days=1 if clock >= end else 0)
    # In the second of two repeated hours the end is the second one as well.
    return local_instant(end_day, end.replace(fold=local.fold), zone)
