"""Gate verdicts, quiet hours, ledger ids, and the state of an action after an attempt."""

from datetime import UTC, datetime, time

import pytest

from libs.common.instants import DAY, SECOND
from services.orchestrator.domain.gate import (
    GateRequest,
    GateRules,
    GateVerdict,
    check_gate,
    next_allowed_at,
)
from services.orchestrator.domain.ledger_ids import action_id, enrollment_id, in_holdout
from services.orchestrator.domain.rendered_message import DeliveryResult
from services.orchestrator.handlers.dispatcher import MAX_ATTEMPTS, next_action_state


def instant(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000


def gate_request(**fields):
    defaults = {
        "purpose": "marketing",
        "address": "a@x.test",
        "consent": True,
        "suppressed": None,
        "used_today": 0,
    }
    return GateRequest(**{**defaults, **fields})


@pytest.mark.parametrize(
    ("fields", "status", "reason"),
    [
        ({}, "send", "allowed"),
        ({"consent": None}, "suppressed", "no_consent"),
        ({"consent": False}, "suppressed", "consent_withdrawn"),
        ({"consent": None, "purpose": "transactional"}, "send", "allowed"),
        ({"suppressed": "unsubscribed"}, "suppressed", "unsubscribed"),
        ({"suppressed": "unsubscribed", "purpose": "transactional"}, "suppressed", "unsubscribed"),
        ({"address": None}, "skipped", "no_address"),
        ({"used_today": 3}, "capped", "cap_of_3_per_day"),
        ({"used_today": 3, "purpose": "transactional"}, "send", "allowed"),
        ({"used_today": 1, "used_this_week": 10}, "capped", "cap_of_10_per_week"),
        ({"stopped": "kill_switch"}, "held", "kill_switch"),
        ({"stopped": "kill_switch", "purpose": "transactional"}, "held", "kill_switch"),
        ({"stopped": "play_paused", "suppressed": "unsubscribed"}, "suppressed", "unsubscribed"),
        ({"unfit": "no_content"}, "skipped", "no_content"),
    ],
)
def test_gate_verdict(fields, status, reason):
    verdict = check_gate(gate_request(**fields), GateRules(), 0)

    assert (verdict.status, verdict.reason) == (status, reason)


NIGHT = GateRules(quiet_from=time(21), quiet_to=time(8))


@pytest.mark.parametrize(
    ("now", "zone", "allowed"),
    [
        ("2026-06-01T12:00:00", "UTC", "2026-06-01T12:00:00"),
        ("2026-06-01T22:00:00", "UTC", "2026-06-02T08:00:00"),
        ("2026-06-01T03:00:00", "UTC", "2026-06-01T08:00:00"),
        ("2026-06-01T21:00:00", "UTC", "2026-06-02T08:00:00"),
        ("2026-06-01T08:00:00", "UTC", "2026-06-01T08:00:00"),
        ("2026-06-01T19:30:00", "Europe/Paris", "2026-06-02T06:00:00"),
        ("2026-06-01T19:30:00", "Nowhere/Land", "2026-06-01T19:30:00"),
        # The night of the change to summer time is an hour shorter.
        ("2026-03-28T23:00:00", "Europe/Paris", "2026-03-29T06:00:00"),
        ("2026-10-24T23:00:00", "Europe/Paris", "2026-10-25T07:00:00"),
        ("2028-02-28T22:00:00", "UTC", "2028-02-29T08:00:00"),
        ("2026-06-01T09:00:00", "Etc/GMT+12", "2026-06-01T20:00:00"),
        ("2026-06-01T17:00:00", "Etc/GMT-14", "2026-06-01T18:00:00"),
    ],
)
def test_quiet_hours_follow_contact_time_zone(now, zone, allowed):
    assert next_allowed_at(instant(now), NIGHT, zone) == instant(allowed)


def test_quiet_hours_defer_marketing_and_default_off():
    verdict = check_gate(gate_request(), NIGHT, instant("2026-06-01T23:00:00"))

    assert verdict == GateVerdict("held", "quiet_hours", instant("2026-06-02T08:00:00"))
    assert check_gate(gate_request(), GateRules(), instant("2026-06-01T23:00:00")).status == "send"
    assert (
        check_gate(
            gate_request(purpose="transactional"), NIGHT, instant("2026-06-01T23:00:00")
        ).status
        == "send"
    )


def test_enrollment_id_depends_on_re_entry_rule():
    never = [enrollment_id("default", "welcome", "c", cause, "never") for cause in ("s1", "s2")]

    always = [enrollment_id("default", "welcome", "c", cause, "always") for cause in ("s1", "s2")]

    assert never[0] == never[1]
    assert always[0] != always[1]
    assert (
        action_id(never[0], "mail") == action_id(never[0], "mail") != action_id(never[0], "mail", 2)
    )


def test_holdout_size_is_near_its_share():
    held_out = [in_holdout("welcome", str(n), 0.1) for n in range(5_000)]

    assert 400 < sum(held_out) < 600
    assert not any(in_holdout("welcome", str(n), 0.0) for n in range(100))


@pytest.mark.parametrize(
    ("attempt", "outcome", "idempotent", "status", "delivery"),
    [
        (1, "delivered", False, "sent", "delivered"),
        (1, "again", False, "pending", "retried"),
        (MAX_ATTEMPTS, "again", False, "failed", "failed"),
        (1, "refused", False, "failed", "failed"),
        (1, "unknown", False, "in_doubt", "unknown"),
        (1, "unknown", True, "pending", "retried"),
        (MAX_ATTEMPTS, "unknown", True, "failed", "failed"),
    ],
)
def test_attempt_outcome_decides_next_state(attempt, outcome, idempotent, status, delivery):
    next_state = next_action_state(
        attempt, DeliveryResult(outcome, "x"), 1_000, 0.5, idempotent=idempotent
    )

    assert next_state[:2] == (status, delivery)
    assert (next_state[2] > 1_000) == (status == "pending")


def test_retry_respects_pause_requested_by_receiver():
    assert (
        next_action_state(1, DeliveryResult("again", "x", DAY), 0, 0.0, idempotent=False)[2] == DAY
    )
    assert (
        next_action_state(1, DeliveryResult("again", "x", 1), 0, 0.0, idempotent=False)[2] == SECOND
    )
