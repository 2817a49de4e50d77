"""Quiet hours at their bounds and in the nights in which clocks change."""

from datetime import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.instants import HOUR, from_iso
from services.orchestrator.domain.gate import GateRules, next_allowed_at

SIESTA = GateRules(quiet_from=time(13), quiet_to=time(15))
NIGHT_UNTIL_0245 = GateRules(quiet_from=time(22), quiet_to=time(2, 45))
CLOCK_CHANGES = [
    ("Europe/Paris", from_iso("2026-03-29T01:00:00Z")),
    ("Europe/Paris", from_iso("2026-10-25T01:00:00Z")),
    ("America/New_York", from_iso("2026-11-01T06:00:00Z")),
    ("Australia/Lord_Howe", from_iso("2026-04-04T15:00:00Z")),
]
"""Time zones with the instants at which their clocks change, by half an hour on Lord Howe."""


@pytest.mark.parametrize(
    ("now", "allowed"),
    [
        ("12:00", "12:00"),
        ("13:00", "15:00"),
        ("14:59", "15:00"),
        ("15:00", "15:00"),
        ("18:00", "18:00"),
    ],
)
def test_quiet_hours_include_start_and_exclude_end(now, allowed):
    at = from_iso(f"2026-06-01T{now}:00Z")

    assert next_allowed_at(at, SIESTA, "UTC") == from_iso(f"2026-06-01T{allowed}:00Z")


@pytest.mark.parametrize(
    "rules",
    [
        GateRules(quiet_from=time(9)),
        GateRules(quiet_to=time(18)),
        GateRules(quiet_from=time(12), quiet_to=time(12)),
    ],
)
def test_incomplete_or_empty_quiet_hours_are_off(rules):
    noon = from_iso("2026-06-01T12:00:00Z")

    assert next_allowed_at(noon, rules, "UTC") == noon


@pytest.mark.parametrize(
    ("now", "allowed"),
    [
        ("2026-10-25T02:30:00+02:00", "2026-10-25T02:45:00+02:00"),
        ("2026-10-25T02:50:00+02:00", "2026-10-25T02:50:00+02:00"),
        ("2026-10-25T02:30:00+01:00", "2026-10-25T02:45:00+01:00"),
    ],
)
def test_quiet_hours_apply_to_both_repeated_hours(now, allowed):
    """In Paris the hour from 02:00 occurs twice in the night of the change to winter time."""
    assert next_allowed_at(from_iso(now), NIGHT_UNTIL_0245, "Europe/Paris") == from_iso(allowed)


@given(
    change=st.sampled_from(CLOCK_CHANGES),
    distance=st.integers(-3 * HOUR, 3 * HOUR),
    quiet_from=st.times(time(20), time(23, 59)),
    quiet_to=st.times(time(1), time(4)),
)
def test_end_of_quiet_hours_is_not_quiet(change, distance, quiet_from, quiet_to):
    zone, changed_at = change
    rules = GateRules(quiet_from=quiet_from, quiet_to=quiet_to)
    now = changed_at + distance

    allowed = next_allowed_at(now, rules, zone)

    assert now <= allowed <= now + 9 * HOUR
    assert next_allowed_at(allowed, rules, zone) == allowed
