"""Stages follow points, traits and dwell: falls, caps of points, moves by time."""

import json

import pytest

from services.scoring.domain.fold import advance, current_position, fold
from tests.support.touchpoints import DAY, HOUR, START, identify, small_cycle, touchpoint

MIDNIGHT = DAY - START % DAY
"""The first midnight (UTC) after START, as an offset."""
LADDER = """
cycle: ladder
version: "1"
scores: {warmth: {half_life: 1d}}
signals:
  visited: {match: [{name: Visited}], adds: [{score: warmth, points: 8}]}
  liked: {match: [{name: Liked}], adds: [{score: warmth, points: 1, cap: 1.5}]}
  annoyed: {match: [{name: Annoyed}], adds: [{score: warmth, points: -4, cap: 6}]}
axes:
  - name: buying
    stages:
      - {name: cold}
      - {name: warm, enter: {score: warmth, at_least: 2}}
      - {name: keen, enter: {score: warmth, at_least: 4}}
      - {name: hot, enter: {score: warmth, at_least: 8}, stay: {score: warmth, at_least: 6}}
  - name: sales
    stages:
      - {name: open}
      - {name: brief, enter: {score: warmth, at_least: 8}, dwell: 1us}
      - {name: matched, enter: {trait: employees, equals: EMPLOYEES}}
stages: [{name: any, ring: 0}]
map:
  open: {cold: any, warm: any, keen: any, hot: any}
  brief: {cold: any, warm: any, keen: any, hot: any}
  matched: {cold: any, warm: any, keen: any, hot: any}
dormant: {silent: any, for: 30d}
"""


def ladder_cycle(employees=50):
    """Return a cycle of four buying stages and a sales stage for companies of this size."""
    return small_cycle(LADDER.replace("EMPLOYEES", json.dumps(employees)))


def fold_touchpoints(*touchpoints, cycle=None, until=0):
    """Fold touchpoints and advance to START + until; return state and moves."""
    cycle = cycle or ladder_cycle()
    state = cycle.engine.initial_state()
    moves = fold(cycle.engine, state, [cycle.classifier.to_fold_event(t) for t in touchpoints])
    advance(cycle.engine, state, START + until, moves)
    return state, moves


def test_setback_falls_two_stages_at_once():
    _, moves = fold_touchpoints(touchpoint(0, "Visited"), touchpoint(HOUR, "Annoyed"), until=HOUR)

    assert [move.after.places[0] for move in moves if not move.timed] == ["hot", "warm"]


def test_silence_falls_through_every_stage():
    _, moves = fold_touchpoints(touchpoint(0, "Visited"), until=3 * DAY)
    buying = [move.after.places[0] for move in moves]

    assert list(dict.fromkeys(buying)) == ["hot", "keen", "warm", "cold"]


@pytest.mark.parametrize(
    ("name", "number", "warmth"),
    [
        ("Annoyed", 0, 8.0),
        ("Annoyed", 1, 4.0),
        ("Annoyed", 2, 2.0),
        ("Annoyed", 3, 2.0),
        ("Liked", 1, 9.0),
        ("Liked", 2, 9.5),
        ("Liked", 3, 9.5),
    ],
)
def test_points_are_capped_per_day(name, number, warmth):
    capped = [touchpoint(0, name, number=n) for n in range(number)]

    state, _ = fold_touchpoints(touchpoint(0, "Visited"), *capped)

    assert state.values == [warmth]


@pytest.mark.parametrize(("at", "points"), [(MIDNIGHT - 1, 0.0), (MIDNIGHT, -4.0)])
def test_cap_is_renewed_at_midnight(at, points):
    complaints = [touchpoint(0, "Annoyed", number=n) for n in range(2)]
    state_before, _ = fold_touchpoints(*complaints)
    state_after, _ = fold_touchpoints(*complaints, touchpoint(at, "Annoyed"))

    before, after = (
        ladder_cycle().engine.score_values_at(state, START + at)[0]
        for state in (state_before, state_after)
    )

    assert after - before == pytest.approx(points)


@pytest.mark.parametrize(
    ("wanted", "sent", "stage"),
    [
        (50, 50, "matched"),
        (50, "50", "matched"),
        (50, 51, "open"),
        (2.5, 2.5, "matched"),
        (True, True, "matched"),
        ("fifty", "fifty", "matched"),
        ("fifty", 50, "open"),
    ],
)
def test_trait_of_any_kind_is_compared(wanted, sent, stage):
    cycle = ladder_cycle(employees=wanted)

    state, _ = fold_touchpoints(identify(0, traits={"employees": sent}), cycle=cycle)

    assert current_position(cycle.engine, state).places[1] == stage


def test_dwell_of_one_microsecond_outlasts_its_instant():
    visit, complaint = touchpoint(0, "Visited", number=1), touchpoint(0, "Annoyed", number=2)

    _, moves = fold_touchpoints(visit, complaint, until=1)

    assert [(move.at - START, move.after.places[1]) for move in moves] == [
        (0, "brief"),
        (0, "brief"),
        (1, "open"),
    ]


def test_move_by_time_names_no_touchpoint():
    _, moves = fold_touchpoints(touchpoint(0, "Visited", number=1), until=HOUR)

    assert [(move.timed, move.source, move.message_id) for move in moves] == [
        (False, "web", "m1"),
        (True, "", ""),
    ]
