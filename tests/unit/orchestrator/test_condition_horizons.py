"""Horizons of conditions: the instant before which a value cannot change by time alone."""

import pytest

from libs.common.conditions import parse_condition
from libs.common.decay import FOREVER
from libs.common.instants import DAY, HOUR
from services.orchestrator.domain.condition_evaluator import compile_condition
from tests.unit.orchestrator.builders import HALF_LIFE, contact_facts, cycle_facts

BUYER = contact_facts(
    scores={"intent": 8.0, "debt": -8.0},
    at=DAY,
    signals={"order_completed": [DAY, 2 * DAY], "quote_requested": [3 * DAY]},
    last_act=3 * DAY,
)
STRANGER = contact_facts(standings={})


def horizon(condition, contact, at):
    return compile_condition(parse_condition(condition))(contact, at)


@pytest.mark.parametrize(
    ("condition", "at", "expected"),
    [
        ({"count": "order_completed", "at_least": 2, "within": "1d"}, 2 * DAY - 1, -FOREVER),
        ({"count": "order_completed", "at_least": 2, "within": "2d"}, 2 * DAY, 3 * DAY),
        ({"count": "order_completed", "at_least": 2, "within": "2d"}, 3 * DAY - 1, 3 * DAY),
        ({"count": "order_completed", "at_least": 2, "within": "2d"}, 3 * DAY, -FOREVER),
        ({"seen": "quote_requested", "within": "2d"}, 4 * DAY, 5 * DAY),
        ({"silent": "any", "for": "2d"}, 4 * DAY, -5 * DAY),
        ({"silent": "any", "for": "2d"}, 5 * DAY, FOREVER),
    ],
)
def test_window_ends_after_its_signal(condition, at, expected):
    assert horizon(condition, BUYER, at) == expected


@pytest.mark.parametrize(
    ("condition", "at", "expected"),
    [
        ({"score": "intent", "at_least": 4}, DAY, DAY + HALF_LIFE + 1),
        ({"score": "intent", "at_least": 4}, DAY + HALF_LIFE, DAY + HALF_LIFE + 1),
        ({"score": "intent", "at_least": 4}, DAY + HALF_LIFE + 1, -FOREVER),
        ({"score": "intent", "below": 4}, DAY, -(DAY + HALF_LIFE + 1)),
        ({"score": "debt", "at_least": -4}, DAY, -(DAY + HALF_LIFE)),
        ({"score": "debt", "at_least": -4}, DAY + HALF_LIFE, FOREVER),
        ({"score": "intent", "at_least": 9}, DAY, -FOREVER),
        ({"score": "intent", "at_least": -1}, DAY, FOREVER),
    ],
)
def test_score_changes_when_it_decays_past_threshold(condition, at, expected):
    assert horizon(condition, BUYER, at) == expected


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"score": "intent", "at_least": 0.5}, -FOREVER),
        ({"score": "intent", "below": 0.5}, FOREVER),
        ({"score": "intent", "at_least": -0.5}, FOREVER),
    ],
)
@pytest.mark.parametrize("contact", [STRANGER, contact_facts()])
def test_missing_score_counts_as_zero(contact, condition, expected):
    assert horizon(condition, contact, DAY) == expected


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"all": [{"seen": "a", "within": "2d"}, {"seen": "b", "within": "1d"}]}, 2 * DAY),
        ({"any": [{"seen": "a", "within": "2d"}, {"seen": "b", "within": "1d"}]}, 3 * DAY),
        ({"not": {"seen": "a", "within": "2d"}}, -3 * DAY),
        ({"all": []}, FOREVER),
        ({"any": []}, -FOREVER),
    ],
)
def test_combined_condition_has_horizon_of_its_parts(condition, expected):
    contact = contact_facts(signals={"a": [DAY], "b": [DAY]})

    assert horizon(condition, contact, DAY) == expected


@pytest.mark.parametrize(
    ("kind", "open_events", "expected"),
    [
        ("contract_ends", {"contract_ends"}, DAY + HOUR),
        ("contract_ends", {"contract_ends", "budget_opens"}, DAY + HOUR),
        ("contract_ends", {"budget_opens"}, -(DAY + HOUR)),
        ("contract_ends", set(), -(DAY + HOUR)),
        ("any", {"budget_opens"}, DAY + HOUR),
        ("any", set(), -(DAY + HOUR)),
    ],
)
def test_compelling_event_is_checked_again_hourly(kind, open_events, expected):
    contact = contact_facts(events=frozenset(open_events))

    assert horizon({"compelling": kind}, contact, DAY) == expected


@pytest.mark.parametrize(
    ("dormant", "contact", "expected"),
    [
        (True, contact_facts(standings={"engagement": cycle_facts(dormant=True)}), FOREVER),
        (False, contact_facts(standings={"engagement": cycle_facts(dormant=True)}), -FOREVER),
        (True, contact_facts(), -FOREVER),
        (True, STRANGER, -FOREVER),
        (False, STRANGER, -FOREVER),
    ],
)
def test_contact_outside_cycle_is_neither_dormant_nor_active(dormant, contact, expected):
    assert horizon({"dormant": dormant}, contact, DAY) == expected
