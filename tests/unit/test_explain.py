"""Explanations of the shipped cycle, and the margin's formula."""

import pytest

from libs.common.conditions import parse_condition
from services.scoring.domain.explanation import explain
from services.scoring.domain.stage_margin import missing_atoms, stage_margin
from tests.support.touchpoints import DAY, HOUR, START, shipped, touchpoint

CYCLE = shipped()


def explained(touchpoints, at):
    found = explain(CYCLE, [CYCLE.classifier.to_fold_event(t) for t in touchpoints], START + at)
    assert found is not None
    return found


@pytest.mark.capability(7)
def test_every_state_carries_confidence_and_the_touchpoints_that_support_it():
    """Row 7."""
    trace = [touchpoint(n * HOUR, "Content Downloaded", number=n, user_id="u") for n in range(2)]
    found = explained(trace, 3 * HOUR)
    assert 0.0 <= found.confidence <= 1.0
    supporting = {c.message_id for score in found.scores.values() for c in score.contributions}
    assert supporting == {"m0", "m1"}


def test_confidence_wanes_with_time_and_a_fall_is_foretold():
    trace = [touchpoint(n * DAY, "Order Completed", user_id="u", number=n) for n in range(2)]
    fresh, later = explained(trace, DAY), explained(trace, 150 * DAY)
    assert (fresh.axes["buying"].stage, fresh.axes["buying"].confidence) == ("loyalty", 1.0)
    assert later.axes["buying"].stage == "loyalty"
    assert 0.0 < later.axes["buying"].confidence < 1.0
    falls = next(move for move in later.ahead if "loyalty" not in move.after.places)
    assert explained(trace, falls.at - START - 1).axes["buying"].stage == "loyalty"
    assert explained(trace, falls.at - START).axes["buying"].stage != "loyalty"


def test_what_the_next_stage_lacks_is_named():
    found = explained([touchpoint(0, user_id="u")], 0)
    lacking = found.axes["buying"].missing
    assert lacking
    assert all("value" in atom and not atom["holds"] for atom in lacking)


def test_nobody_is_explained_before_the_first_touchpoint():
    assert explain(CYCLE, [CYCLE.classifier.to_fold_event(touchpoint(DAY))], START) is None


@pytest.mark.parametrize(("value", "expected"), [(10.0, 1.0), (12.0, 1.0), (7.5, 0.5), (5.0, 0.0)])
def test_the_margin_lies_between_staying_and_entering(value, expected):
    reading = {"score": "s", "at_least": 5, "value": value, "holds": True}
    assert stage_margin(reading, parse_condition({"score": "s", "at_least": 10})) == expected


def test_all_has_the_smallest_margin_and_any_the_largest():
    high = {"score": "a", "at_least": 1, "value": 1.75, "holds": True}
    low = {"score": "b", "at_least": 1, "value": 1.25, "holds": True}
    enter = parse_condition({"all": [{"score": "a", "at_least": 2}, {"score": "b", "at_least": 2}]})
    assert stage_margin({"all": [high, low], "holds": True}, enter) == 0.25
    assert stage_margin({"any": [high, low], "holds": True}, enter) == 0.75
    assert stage_margin({"all": [high, low], "holds": False}, enter) == 0.0
    assert stage_margin({"trait": "x", "equals": "y", "value": "y", "holds": True}, enter) == 1.0


def test_of_an_any_the_nearest_part_is_missing():
    off = {"trait": "x", "holds": False}
    reading = {"any": [{"all": [off, off], "holds": False}, off], "holds": False}
    assert missing_atoms(reading) == [off]
