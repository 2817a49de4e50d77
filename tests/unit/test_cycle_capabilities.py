"""Rows 8, 9, 20 to 25 and 29 of what the system must do, as traces through the shipped cycle."""

from itertools import permutations

import pytest

from services.scoring.domain.fold import advance, current_position, fold
from services.scoring.domain.publication import change_direction
from tests.support.touchpoints import DAY, HOUR, MINUTE, START, identify, shipped, touchpoint

CYCLE = shipped()
ENGINE = CYCLE.engine


def run(*touchpoints, until=None):
    """Return (state, moves) of touchpoints in any order, advanced to START + until."""
    state = ENGINE.initial_state()
    moves = fold(
        ENGINE,
        state,
        [CYCLE.classifier.to_fold_event(t) for t in sorted(touchpoints, key=lambda t: t.key)],
    )
    if until is not None:
        advance(ENGINE, state, START + until, moves)
    return state, moves


def directions(moves):
    return [change_direction(ENGINE, m.before, m.after) for m in moves]


def stages(moves):
    found = []
    for move in moves:
        if not found or found[-1] != move.after.stage:
            found.append(move.after.stage)
    return found


def phases(moves):
    found = []
    for move in moves:
        buying = move.after.places[ENGINE.buying]
        if not found or found[-1] != buying:
            found.append(buying)
    return found


@pytest.mark.capability(8)
def test_row_8_an_anonymous_contact_walks_the_phases_before_the_relation():
    trace = [
        touchpoint(0, "Blog", type="page"),
        touchpoint(DAY, "Content Downloaded"),
        touchpoint(2 * DAY, "Pricing", type="page"),
        touchpoint(2 * DAY + HOUR, "Trial Started"),
    ]
    _, moves = run(*trace)
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
def test_row_9_a_golden_trace_walks_from_visitor_to_ambassador():
    state, moves = run(*golden_trace())
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
    assert current_position(ENGINE, state).stage == "ambassador"


@pytest.mark.capability(20)
def test_row_20_the_order_of_arrival_does_not_matter():
    trace = golden_trace()
    expected = run(*trace)[0].encode()
    for order in list(permutations(trace))[::500]:
        assert run(*order)[0].encode() == expected


@pytest.mark.capability(20)
def test_row_20_any_stage_can_be_skipped():
    _, moves = run(touchpoint(0, "Home", type="page"), touchpoint(MINUTE, "Order Completed"))
    assert stages(moves) == ["visitor", "customer"]
    assert directions(moves) == ["entry", "skip"]


@pytest.mark.capability(21)
def test_row_21_silence_is_a_regression_at_its_exact_instant():
    _, moves = run(touchpoint(0, "Content Downloaded"), until=40 * DAY)
    assert stages(moves) == ["reader", "visitor"]
    fall = moves[1]
    assert directions(moves)[1] == "regression"
    assert fall.timed
    # 8 points fall below 4 just after one half-life of 14 days, when the download is no longer recent either.
    assert fall.at == START + 14 * DAY + 1
    assert fall.values[0] < 4.0


@pytest.mark.capability(21)
def test_row_21_a_negative_signal_is_a_regression_with_its_cause():
    orders = [touchpoint(n * DAY, "Order Completed", user_id="u", number=n) for n in (1, 5)]
    complaint = touchpoint(6 * DAY, "Complaint Received", user_id="u")
    _, moves = run(identify(0), *orders, complaint)
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
def test_row_22_entry_at_any_stage(first, phase):
    _, moves = run(first)
    assert phases(moves) == [phase]
    assert directions(moves) == ["entry"]


@pytest.mark.capability(23)
def test_row_23_dormant_and_back():
    _, moves = run(touchpoint(0), touchpoint(90 * DAY, "Content Downloaded"))
    assert directions(moves) == ["entry", "dormancy", "re_entry"]
    assert moves[1].at == START + 60 * DAY
    assert moves[2].after.stage == "reader", "the stage is computed anew, not reset"


@pytest.mark.capability(24)
def test_row_24_months_of_silence_never_make_a_customer():
    trace = [
        touchpoint(0, "Tweet", type="page"),
        touchpoint(90 * DAY, "Products Searched"),
        touchpoint(200 * DAY, "Friend Shared", type="page"),
        identify(340 * DAY),
        touchpoint(340 * DAY + MINUTE, "Newsletter Subscribed", user_id="u"),
    ]
    _, moves = run(*trace, until=365 * DAY)
    assert "customer" not in stages(moves)
    assert directions(moves).count("re_entry") == 3


@pytest.mark.capability(25)
def test_row_25_an_impulse_purchase_is_one_transition():
    _, moves = run(touchpoint(0, "Order Completed"))
    assert stages(moves) == ["customer"]
    assert len(moves) == 1


@pytest.mark.capability(13)
def test_a_second_order_opens_the_next_instance_and_keeps_the_first():
    _, moves = run(
        touchpoint(0, "Order Completed", number=1), touchpoint(DAY, "Order Completed", number=2)
    )
    assert directions(moves) == ["entry", "repeat"]
    assert [m.after.instance for m in moves] == ["web:m1", "web:m2"]


@pytest.mark.capability(26)
def test_likes_of_one_day_are_only_likes():
    likes = [touchpoint(n, "Post Liked", number=n) for n in range(2_000)]
    state, moves = run(*likes)
    assert current_position(ENGINE, state).stage == "visitor"
    assert len(moves) == 1


def test_brand_bots_and_declared_touchpoints_neither_score_nor_end_a_silence():
    quiet = [
        touchpoint(50 * DAY, "Order Completed", initiative="brand"),
        touchpoint(51 * DAY, "Order Completed", is_bot=True),
        touchpoint(52 * DAY, "Order Completed", evidence="declared"),
        touchpoint(53 * DAY, "Order Completed", mode="test"),
    ]
    _, moves = run(touchpoint(0), *quiet, until=70 * DAY)
    assert directions(moves) == ["entry", "dormancy"]
    assert moves[1].at == START + 60 * DAY


@pytest.mark.capability(14)
def test_the_shipped_cycle_is_complete():
    spec = ENGINE.spec
    assert [s.name for s in spec.stages] == [
        "visitor", "reader", "lead", "prospect", "customer", "member", "ambassador",
    ]  # fmt: skip
    assert all(
        s.label.keys() >= {"en", "fr"} and s.owner and s.guiding_question and s.metric
        for s in spec.stages
    )
    assert [s.ring for s in spec.stages] == sorted({s.ring for s in spec.stages})


@pytest.mark.capability(38)
def test_row_38_social_interactions_have_caps_and_a_decay_of_their_own():
    many = [touchpoint(n * MINUTE, "Profile Followed", number=n) for n in range(50)]
    state, _ = run(*many)
    at = START + HOUR
    (followed,) = [
        v
        for n, v in zip(ENGINE.score_names, ENGINE.score_values_at(state, at), strict=True)
        if n == "social"
    ]
    assert followed == pytest.approx(3, rel=0.01), "a day of following adds no more than its cap"
    later = ENGINE.score_values_at(state, at + 30 * DAY)[ENGINE.score_names.index("social")]
    assert later == pytest.approx(followed / 2)
    assert current_position(ENGINE, state).stage == "visitor"
    warm = [
        touchpoint(n * DAY, name, number=f"{name}{n}")
        for n in range(2)
        for name in ("Post Commented", "Post Shared")
    ]
    state, _ = run(*many, *warm)
    assert current_position(ENGINE, state).stage == "reader", (
        "who comments and shares day after day is warm"
    )
    likes = [touchpoint(n * DAY, "Post Liked", number=f"like{n}") for n in range(300)]
    state, _ = run(*likes)
    assert current_position(ENGINE, state).stage == "visitor", "a like is only a like"


@pytest.mark.parametrize(
    ("said", "worth"),
    [({"sentiment": -0.8}, -4), ({"sentiment": 0.9}, 0), ({}, 0), ({"sentiment": "bad"}, 0)],
)
@pytest.mark.capability(35)
def test_row_35_a_feeling_feeds_a_score_and_one_that_is_not_told_is_no_zero(said, worth):
    state, _ = run(touchpoint(0, "Feedback Given", properties=said))
    assert ENGINE.score_values_at(state, START)[
        ENGINE.score_names.index("interest")
    ] == pytest.approx(worth)
    (occurrence,) = [
        CYCLE.classifier.to_fold_event(touchpoint(0, "Feedback Given", properties=said))
    ]
    assert bool(occurrence.signals) is (worth != 0)
