"""Explanations of positions in the shipped cycle, and the stage margin."""

import pytest

from libs.common.conditions import parse_condition
from services.scoring.domain.explanation import explain
from services.scoring.domain.stage_margin import missing_atoms, stage_margin
from tests.support.touchpoints import DAY, HOUR, START, shipped, touchpoint

CYCLE = shipped()


def explanation_of(touchpoints, at):
    """Return the explanation of touchpoints at START + at."""
    events = [CYCLE.classifier.to_fold_event(t) for t in touchpoints]
    explanation = explain(CYCLE, events, START + at)
    assert explanation is not None
    return explanation


@pytest.mark.capability(7)
def test_explanation_has_confidence_and_supporting_touchpoints():
    downloads = [
        touchpoint(n * HOUR, "Content Downloaded", number=n, user_id="u") for n in range(2)
    ]

    explanation = explanation_of(downloads, 3 * HOUR)

    assert 0.0 <= explanation.confidence <= 1.0

    supporting = {
        c.message_id for score in explanation.scores.values() for c in score.contributions
    }

    assert supporting == {"m0", "m1"}


def test_confidence_decays_and_regression_is_forecast():
    orders = [touchpoint(n * DAY, "Order Completed", user_id="u", number=n) for n in range(2)]

    fresh, later = explanation_of(orders, DAY), explanation_of(orders, 150 * DAY)

    assert (fresh.axes["buying"].stage, fresh.axes["buying"].confidence) == ("loyalty", 1.0)
    assert later.axes["buying"].stage == "loyalty"
    assert 0.0 < later.axes["buying"].confidence < 1.0

    regression = next(move for move in later.ahead if "loyalty" not in move.after.places)

    assert explanation_of(orders, regression.at - START - 1).axes["buying"].stage == "loyalty"
    assert explanation_of(orders, regression.at - START).axes["buying"].stage != "loyalty"


def test_missing_conditions_of_next_stage_are_listed():
    explanation = explanation_of([touchpoint(0, user_id="u")], 0)
    missing = explanation.axes["buying"].missing

    assert missing
    assert all("value" in atom and not atom["holds"] for atom in missing)


def test_no_explanation_before_first_touchpoint():
    assert explain(CYCLE, [CYCLE.classifier.to_fold_event(touchpoint(DAY))], START) is None


@pytest.mark.parametrize(("value", "expected"), [(10.0, 1.0), (12.0, 1.0), (7.5, 0.5), (5.0, 0.0)])
def test_margin_lies_between_stay_and_enter(value, expected):
    reading = {"score": "s", "at_least": 5, "value": value, "holds": True}

    assert stage_margin(reading, parse_condition({"score": "s", "at_least": 10})) == expected


def test_all_has_smallest_margin_any_largest():
    high = {"score": "a", "at_least": 1, "value": 1.75, "holds": True}
    low = {"score": "b", "at_least": 1, "value": 1.25, "holds": True}

    enter = parse_condition({"all": [{"score": "a", "at_least": 2}, {"score": "b", "at_least": 2}]})

    assert stage_margin({"all": [high, low], "holds": True}, enter) == 0.25
    assert stage_margin({"any": [high, low], "holds": True}, enter) == 0.75
    assert stage_margin({"all": [high, low], "holds": False}, enter) == 0.0
    assert stage_margin({"trait": "x", "equals": "y", "value": "y", "holds": True}, enter) == 1.0


def test_nearest_alternative_of_any_is_missing():
    unmet = {"trait": "x", "holds": False}
    reading = {"any": [{"all": [unmet, unmet], "holds": False}, unmet], "holds": False}

    assert missing_atoms(reading) == [unmet]
