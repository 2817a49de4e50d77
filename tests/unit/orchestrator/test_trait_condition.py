"""Conditions over traits and consents: numbers and texts, missing and unknown values."""

import pytest

from libs.common.conditions import parse_condition
from services.orchestrator.domain.condition_evaluator import compile_condition, condition_holds
from tests.unit.orchestrator.builders import contact_facts


def holds(condition, **facts):
    return condition_holds(compile_condition(parse_condition(condition)), contact_facts(**facts), 0)


@pytest.mark.parametrize(
    ("value", "expected_value", "is_equal"),
    [
        ("FR", "FR", True),
        ("FR", "DE", False),
        (40, 40, True),
        (40.0, 40, True),
        ("40", 40, True),
        (40, "40", True),
        ("41", 40, False),
        (True, True, True),
        (None, "None", False),
    ],
)
def test_trait_equals_value_or_its_text(value, expected_value, is_equal):
    condition = {"trait": "x", "equals": expected_value}

    assert holds(condition, traits={"x": value}) is is_equal


@pytest.mark.parametrize(("country", "is_listed"), [("DE", True), ("FR", False), (None, False)])
def test_trait_is_among_listed_values(country, is_listed):
    condition = {"trait": "country", "one_of": ["AT", "DE"]}

    assert holds(condition, traits={"country": country}) is is_listed


@pytest.mark.parametrize(
    ("value", "at_least_forty", "at_most_forty"),
    [
        (39, False, True),
        (40, True, True),
        (40.5, True, False),
        (True, False, False),
        ("40", False, False),
        (None, False, False),
    ],
)
def test_numeric_bounds_are_inclusive(value, at_least_forty, at_most_forty):
    traits = {"employees": value}

    assert holds({"trait": "employees", "at_least": 40}, traits=traits) is at_least_forty
    assert holds({"trait": "employees", "at_most": 40}, traits=traits) is at_most_forty


@pytest.mark.parametrize(
    ("traits", "is_known"), [({"plan": "pro"}, True), ({"plan": None}, False), ({}, False)]
)
def test_trait_without_value_is_unknown(traits, is_known):
    assert holds({"trait": "plan", "known": True}, traits=traits) is is_known
    assert holds({"trait": "plan", "known": False}, traits=traits) is not is_known


@pytest.mark.parametrize(
    ("consents", "is_given"),
    [({"marketing": True}, True), ({"marketing": False}, False), ({"profiling": True}, False)],
)
def test_unknown_consent_is_not_given(consents, is_given):
    assert holds({"consent": "marketing"}, consents=consents) is is_given
    assert holds({"consent": "marketing", "given": False}, consents=consents) is not is_given
