"""Capabilities of the shipped cycle, as histories of touchpoints through the fold."""

from itertools import permutations

import pytest

from services.scoring.domain.fold import advance, current_position, fold
from services.scoring.domain.publication import change_direction
from tests.support.touchpoints import DAY, HOUR, MINUTE, START, identify, shipped, touchpoint

CYCLE = shipped()
COMPILED = CYCLE.engine


def fold_touchpoints(*touchpoints, until=None):
    """Fold touchpoints given in any order, advance to START + until; return state and moves."""
    state = COMPILED.initial_state()
    moves = fold(
        COMPILED,
        state,
        [CYCLE.classifier.to_fold_event(t) for t in sorted(touchpoints, key=lambda t: t.key)],
    )
    if until is not None:
        advance(COMPILED, state, START + until, moves)
    return state, moves


def directions(moves):
    return [change_direction(COMPILED, m.before, m.after) for m in moves]


def stages(moves):
    """Return the stages of moves, without repetitions."""
    names = []
    for move in moves:
        if not names or names[-1] != move.after.stage:
            names.append(move.after.stage)
    return names


def phases(moves):
    """Return the stages of moves on the buying axis, without repetitions."""
    names = []
    for move in moves:
        buying = move.after.places[COMPILED.buying]
        if not names or names[-1] != buying:
            names.append(buying)
    return names


@pytest.mark.capability(8)
def test_anonymous_contact_passes_pre_relation_phases():
    trace = [
        touchpoint(0, "Blog", type="page"),
        touchpoint(DAY, "Content Downloaded"),
        touchpoint(2 * DAY, "Pricing", type="page"),
        touchpoint(2 * DAY + HOUR, "Trial Started"),
    ]

    _, moves = fold_touchpoints(*trace)

    assert phases(moves) == ["awareness", "investigation", "validation"]


def golden_trace():
    return [
        touchpoint(0, "Blog", type="page"),
        touchpoint(HOUR, "Content Downloaded"),
        identify(DAY),
        touchpoint(2 * DAY, "Quote Requested", user_id="u"),
        touchpoint(3 * DAY, "Order Completed", user_id="u"),
        touchpoint(20 * DAY, "Order Completed", user_id="u", number=1),
        touchpoint(21 * DAY, "Product Shared", user_id="u"),
        touchpoint(22 * DAY, "Review Submitted", user_id="u"),
    ]


@pytest.mark.capability(9)
def test_golden_trace_passes_all_stages():
    state, moves = fold_touchpoints(*golden_trace())

    assert stages(moves) == [
        "visitor",
        "reader",
        "lead",
        "prospect",
        "customer",
        "member",
        "ambassador",
    ]
    assert len(moves) == len({m.key for m in moves})
    assert current_position(COMPILED, state).stage == "ambassador"


@pytest.mark.capability(20)
def test_arrival_order_leaves_state_unchanged():
    trace = golden_trace()

    expected = fold_touchpoints(*trace)[0].encode()

    for order in list(permutations(trace))[::500]:
        assert fold_touchpoints(*order)[0].encode() == expected


@pytest.mark.capability(20)
def test_contact_may_skip_stages():
    _, moves = fold_touchpoints(
        touchpoint(0, "Home", type="page"), touchpoint(MINUTE, "Order Completed")
    )

    assert stages(moves) == ["visitor", "customer"]
    assert directions(moves) == ["entry", "skip"]


@pytest.mark.capability(21)
def test_silence_regresses_at_exact_instant():
    _, moves = fold_touchpoints(touchpoint(0, "Content Downloaded"), until=40 * DAY)

    assert stages(moves) == ["reader", "visitor"]

    regression = moves[1]

    assert directions(moves)[1] == "regression"
    assert regression.timed
    # 8 points decay below 4 just after one half-life of 14 days; the download is no longer
    # recent at that time either.
    assert regression.at == START + 14 * DAY + 1
    assert regression.values[0] < 4.0


@pytest.mark.capability(21)
def test_negative_signal_causes_regression():
    orders = [touchpoint(n * DAY, "Order Completed", user_id="u", number=n) for n in (1, 5)]
    complaint = touchpoint(6 * DAY, "Complaint Received", user_id="u")

    _, moves = fold_touchpoints(identify(0), *orders, complaint)

    assert stages(moves)[-2:] == ["member", "customer"]
    assert moves[-1].message_id == complaint.message_id
    assert directions(moves)[-1] == "regression"


@pytest.mark.parametrize(
    ("first", "phase"),
    [
        (touchpoint(0, "Quote Requested"), "validation"),
        (touchpoint(0, "Content Downloaded"), "investigation"),
        (touchpoint(0, "Order Completed"), "purchase"),
        (touchpoint(0, "Home", type="page"), "awareness"),
    ],
)
@pytest.mark.capability(22)
def test_contact_may_enter_at_any_stage(first, phase):
    _, moves = fold_touchpoints(first)

    assert phases(moves) == [phase]
    assert directions(moves) == ["entry"]


@pytest.mark.capability(23)
def test_dormant_contact_reenters_at_computed_stage():
    _, moves = fold_touchpoints(touchpoint(0), touchpoint(90 * DAY, "Content Downloaded"))

    assert directions(moves) == ["entry", "dormancy", "re_entry"]
    assert moves[1].at == START + 60 * DAY
    assert moves[2].after.stage == "reader", "the stage is computed anew, not reset"


@pytest.mark.capability(24)
def test_rare_visits_over_a_year_create_no_customer():
    trace = [
        touchpoint(0, "Tweet", type="page"),
        touchpoint(90 * DAY, "Products Searched"),
        touchpoint(200 * DAY, "Friend Shared", type="page"),
        identify(340 * DAY),
        touchpoint(340 * DAY + MINUTE, "Newsletter Subscribed", user_id="u"),
    ]

    _, moves = fold_touchpoints(*trace, until=365 * DAY)

    assert "customer" not in stages(moves)
    assert directions(moves).count("re_entry") == 3


@pytest.mark.capability(25)
def test_impulse_purchase_is_one_transition():
    _, moves = fold_touchpoints(touchpoint(0, "Order Completed"))

    assert stages(moves) == ["customer"]
    assert len(moves) == 1


@pytest.mark.capability(13)
def test_second_order_opens_next_instance():
    _, moves = fold_touchpoints(
        touchpoint(0, "Order Completed", number=1), touchpoint(DAY, "Order Completed", number=2)
    )

    assert directions(moves) == ["entry", "repeat"]
    assert [m.after.instance for m in moves] == ["web:m1", "web:m2"]


@pytest.mark.capability(26)
def test_likes_of_one_day_advance_no_stage():
    likes = [touchpoint(n, "Post Liked", number=n) for n in range(2_000)]

    state, moves = fold_touchpoints(*likes)

    assert current_position(COMPILED, state).stage == "visitor"
    assert len(moves) == 1


def test_brand_bot_declared_and_test_touchpoints_are_ignored():
    ignored = [
        touchpoint(50 * DAY, "Order Completed", initiative="brand"),
        touchpoint(51 * DAY, "Order Completed", is_bot=True),
        touchpoint(52 * DAY, "Order Completed", evidence="declared"),
        touchpoint(53 * DAY, "Order Completed", mode="test"),
    ]

    _, moves = fold_touchpoints(touchpoint(0), *ignored, until=70 * DAY)

    assert directions(moves) == ["entry", "dormancy"]
    assert moves[1].at == START + 60 * DAY


@pytest.mark.capability(14)
def test_shipped_cycle_has_all_stages_with_metadata():
    spec = COMPILED.spec

    assert [stage.name for stage in spec.stages] == [
        "visitor",
        "reader",
        "lead",
        "prospect",
        "customer",
        "member",
        "ambassador",
    ]
    assert all(
        stage.label.keys() >= {"en", "fr"}
        and stage.owner
        and stage.guiding_question
        and stage.metric
        for stage in spec.stages
    )
    assert [stage.ring for stage in spec.stages] == sorted({stage.ring for stage in spec.stages})


@pytest.mark.capability(38)
def test_social_score_is_capped_and_decays():
    follows = [touchpoint(n * MINUTE, "Profile Followed", number=n) for n in range(50)]
    state, _ = fold_touchpoints(*follows)
    at = START + HOUR
    social = COMPILED.score_names.index("social")
    score = COMPILED.score_values_at(state, at)[social]
    later_score = COMPILED.score_values_at(state, at + 30 * DAY)[social]

    assert score == pytest.approx(3, rel=0.01), "the score of one day is capped"
    assert later_score == pytest.approx(score / 2)
    assert current_position(COMPILED, state).stage == "visitor"

    comments_and_shares = [
        touchpoint(n * DAY, name, number=f"{name}{n}")
        for n in range(2)
        for name in ("Post Commented", "Post Shared")
    ]
    state, _ = fold_touchpoints(*follows, *comments_and_shares)

    assert current_position(COMPILED, state).stage == "reader", (
        "repeated comments and shares advance the stage"
    )

    likes = [touchpoint(n * DAY, "Post Liked", number=f"like{n}") for n in range(300)]
    state, _ = fold_touchpoints(*likes)

    assert current_position(COMPILED, state).stage == "visitor", "likes alone advance no stage"


@pytest.mark.parametrize(
    ("properties", "expected"),
    [({"sentiment": -0.8}, -4), ({"sentiment": 0.9}, 0), ({}, 0), ({"sentiment": "bad"}, 0)],
)
@pytest.mark.capability(35)
def test_sentiment_changes_score_only_when_given(properties, expected):
    feedback = touchpoint(0, "Feedback Given", properties=properties)
    state, _ = fold_touchpoints(feedback)
    event = CYCLE.classifier.to_fold_event(feedback)

    interest = COMPILED.score_values_at(state, START)[COMPILED.score_names.index("interest")]

    assert interest == pytest.approx(expected)
    assert bool(event.signals) is (expected != 0)
