"""Conditions over contact facts: their value, and the horizon before which it cannot change."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.conditions import parse_condition, referenced_segments
from libs.common.decay import FOREVER
from libs.common.instants import DAY
from services.orchestrator.domain.condition_evaluator import compile_condition, condition_holds
from services.orchestrator.domain.condition_references import check_references
from tests.unit.orchestrator.builders import (
    HALF_LIFE,
    NAMES,
    VOCABULARIES,
    contact_facts,
    cycle_facts,
)

ADA = contact_facts(
    scores={"intent": 8.0},
    traits={"country": "FR", "employees": 40, "plan": None},
    signals={"order_completed": [DAY, 2 * DAY], "quote_requested": [3 * DAY]},
    last_act=3 * DAY,
    consents={"marketing": True},
)


@pytest.mark.parametrize(
    ("condition", "at", "expected"),
    [
        ({"stage": "lead"}, 0, True),
        ({"stage": ["reader", "customer"]}, 0, False),
        ({"stage": "lead", "cycle": "engagement"}, 0, True),
        ({"axis": "buying", "at_least": "investigation"}, 0, True),
        ({"axis": "buying", "at_least": "validation"}, 0, False),
        ({"axis": "sales", "below": "won"}, 0, True),
        ({"score": "intent", "at_least": 8}, 0, True),
        ({"score": "intent", "at_least": 4}, HALF_LIFE, True),
        ({"score": "intent", "at_least": 4}, HALF_LIFE + 1, False),
        ({"score": "intent", "below": 4}, HALF_LIFE + 1, True),
        ({"score": "loyalty", "at_least": 1}, 0, False),
        ({"count": "order_completed", "at_least": 2, "within": "7d"}, 3 * DAY, True),
        ({"count": "order_completed", "at_least": 2, "within": "1d"}, 3 * DAY, False),
        ({"count": "order_completed", "at_least": 3}, 9 * DAY, False),
        ({"seen": "quote_requested", "within": "2d"}, 5 * DAY - 1, True),
        ({"seen": "quote_requested", "within": "2d"}, 5 * DAY, False),
        ({"seen": "complaint"}, 5 * DAY, False),
        ({"seen": "any", "within": "2d"}, 5 * DAY - 1, True),
        ({"seen": "any", "within": "2d"}, 5 * DAY, False),
        ({"silent": "any", "for": "10d"}, 13 * DAY - 1, False),
        ({"silent": "any", "for": "10d"}, 13 * DAY, True),
        ({"silent": "complaint", "for": "10d"}, 0, True),
        ({"trait": "country", "equals": "FR"}, 0, True),
        ({"trait": "country", "one_of": ["DE", "AT"]}, 0, False),
        ({"trait": "employees", "at_least": 40}, 0, True),
        ({"trait": "employees", "at_most": 39}, 0, False),
        ({"trait": "country", "at_least": 1}, 0, False),
        ({"trait": "plan", "known": False}, 0, True),
        ({"dormant": False}, 0, True),
        ({"consent": "marketing"}, 0, True),
        ({"segment": "buyers"}, 0, False),
        ({"all": [{"stage": "lead"}, {"not": {"segment": "buyers"}}]}, 0, True),
        ({"any": [{"stage": "reader"}, {"trait": "country", "equals": "FR"}]}, 0, True),
        ({"any": [{"segment": "buyers"}, {"stage": "lead"}]}, 0, True),
    ],
)  # fmt: skip
def test_condition_is_evaluated_over_facts(condition, at, expected):
    parsed = parse_condition(condition)

    check_references(parsed, NAMES.segments, VOCABULARIES)

    assert condition_holds(compile_condition(parsed, NAMES.segments), ADA, at) is expected


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ({"stage": "king"}, "no stage 'king'; there are visitor"),
        ({"stage": "lead", "cycle": "other"}, "no cycle 'other'"),
        ({"axis": "mood", "at_least": "good"}, "no axis 'mood'"),
        ({"axis": "buying", "at_least": "won"}, "no stage 'won'"),
        ({"axis": "buying"}, "either at_least or below"),
        ({"score": "joy", "at_least": 1}, "no score 'joy'"),
        ({"score": "intent", "at_least": 0}, "nears 0"),
        ({"seen": "visited"}, "no cycle publishes a signal 'visited'"),
        ({"count": "order_completed", "at_least": 0}, "greater than or equal to 1"),
        ({"count": "order_completed"}, "Field required"),
        ({"silent": "any", "for": "soon"}, "no duration"),
        ({"trait": "x"}, "a trait needs one of"),
        ({"segment": "kings"}, "no segment 'kings'; there are buyers"),
        ({"stage": "lead", "seen": "complaint"}, "exactly one of"),
        ({"stage": "lead", "whenever": 1}, "Extra inputs"),
        ("lead", "exactly one of"),
    ],
)
def test_meaningless_condition_is_refused(condition, reason):
    with pytest.raises(ValueError, match=reason):
        check_references(parse_condition(condition), NAMES.segments, VOCABULARIES)


@pytest.mark.parametrize(
    "part_of_a",
    [{"not": {"segment": "a"}}, {"any": [{"segment": "a"}]}, {"all": [{"segment": "a"}]}],
)
def test_segment_defined_by_itself_is_refused(part_of_a):
    segments = {"a": parse_condition({"segment": "b"}), "b": parse_condition(part_of_a)}

    with pytest.raises(ValueError, match="defined by itself"):
        compile_condition(parse_condition({"segment": "a"}), segments)


@pytest.mark.parametrize(
    ("names", "known"), [([], "none"), (["buyers"], "buyers"), (["fans", "buyers"], "buyers, fans")]
)
def test_unknown_segment_is_refused_with_known_ones(names, known):
    segments = {name: parse_condition({"stage": "customer"}) for name in names}

    with pytest.raises(ValueError, match=f"^no segment 'kings'; there are {known}$"):
        compile_condition(parse_condition({"segment": "kings"}), segments)


def test_referenced_segments_include_nested_conditions():
    condition = {"all": [{"segment": "a"}, {"not": {"segment": "b"}}, {"stage": "x"}]}

    assert referenced_segments(parse_condition(condition)) == {"a", "b"}


@pytest.mark.parametrize(
    "condition",
    [
        {"stage": "lead"},
        {"axis": "buying", "at_least": "validation"},
        {"score": "intent", "at_least": 1},
    ],
)
def test_condition_is_false_without_facts(condition):
    unknown = contact_facts(standings={})

    assert not condition_holds(compile_condition(parse_condition(condition)), unknown, 0)


@pytest.mark.parametrize(
    ("axis", "stage", "reached"),
    [("buying", "validation", "gone"), ("buying", "gone", "validation"), ("mood", "good", "gone")],
)
@pytest.mark.parametrize("bound", ["at_least", "below"])
def test_axis_stage_of_another_version_is_not_compared(axis, stage, reached, bound):
    other_version = contact_facts(standings={"engagement": cycle_facts(buying=reached)})

    condition = parse_condition({"axis": axis, bound: stage})

    assert not condition_holds(compile_condition(condition), other_version, 0)


ATOMS = st.sampled_from(
    [
        {"score": "intent", "at_least": 3},
        {"score": "intent", "below": 6.5},
        {"seen": "quote_requested", "within": "5d"},
        {"count": "order_completed", "at_least": 2, "within": "9d"},
        {"silent": "any", "for": "12d"},
        {"stage": "lead"},
    ]
)
CONDITIONS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"all": parts}),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"any": parts}),
        inner.map(lambda part: {"not": part}),
    ),
    max_leaves=6,
)


@given(CONDITIONS, st.integers(3 * DAY, 30 * DAY), st.floats(0, 1))
def test_condition_is_constant_before_its_horizon(condition, now, fraction):
    evaluate = compile_condition(parse_condition(condition))
    horizon = evaluate(ADA, now)

    end = min(abs(horizon), now + 60 * DAY)

    assert end > now or abs(horizon) == FOREVER

    later = now + int((end - 1 - now) * fraction)

    assert condition_holds(evaluate, ADA, later) is (horizon > 0)


def test_idle_requires_no_touch_and_nothing_planned():
    evaluate = compile_condition(parse_condition({"idle": "14d"}))
    touched = contact_facts(last_act=0, last_touch=3 * DAY)

    assert evaluate(touched, 17 * DAY - 1) == -17 * DAY
    assert evaluate(touched, 17 * DAY) > 0
    assert evaluate(contact_facts(last_act=0, last_touch=3 * DAY, planned=True), 99 * DAY) < 0
    assert evaluate(contact_facts(), 0) > 0, "no contact ever took place"
