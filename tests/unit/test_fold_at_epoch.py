"""Touchpoints of devices with a reset clock, at the first instant of 1970, fold as any other.

Every window and half-life is one microsecond, so whatever begins at 0 ends at 1.
"""

from services.scoring.domain.fold import advance, fold
from services.scoring.domain.fold_step import StoredFold, fold_and_publish
from services.scoring.domain.publication import FoldContext
from tests.support.touchpoints import START, small_cycle, touchpoint

CYCLE = small_cycle("""
cycle: blink
version: "1"
scores: {warmth: {half_life: 1us}}
signals:
  visited: {match: [{name: Visited}], adds: [{score: warmth, points: 2}]}
  bought: {match: [{name: Bought}], adds: [{score: warmth, points: 4}]}
  annoyed: {match: [{name: Annoyed}], adds: [{score: warmth, points: -2}]}
  left: {match: [{name: Left}]}
axes:
  - name: buying
    stages:
      - {name: cold}
      - {name: warm, enter: {score: warmth, at_least: 2}}
      - {name: hot, enter: {score: warmth, at_least: 4}}
  - name: sales
    stages: [{name: away}, {name: here, enter: {seen: visited, within: 1us}}]
stages: [{name: any, ring: 0}]
map: {away: {cold: any, warm: any, hot: any}, here: {cold: any, warm: any, hot: any}}
dormant: {seen: left, within: 1us}
""")
COMPILED = CYCLE.engine


def epoch_event(name, number):
    return CYCLE.classifier.to_fold_event(touchpoint(-START, name, number=number))


def positions_until_one(*events):
    """Fold events and advance by a microsecond; return (instant, stages, dormant) of the moves."""
    state = COMPILED.initial_state()
    moves = fold(COMPILED, state, events)
    advance(COMPILED, state, 1, moves)
    return [(move.at, move.after.places, move.after.dormant) for move in moves]


def test_stages_entered_at_epoch_end_after_window():
    assert positions_until_one(epoch_event("Visited", 1)) == [
        (0, ["warm", "here"], False),
        (1, ["cold", "away"], False),
    ]


def test_second_touchpoint_at_epoch_leaves_stages():
    visit, other_act = epoch_event("Visited", 1), epoch_event("Home", 2)

    assert positions_until_one(visit, other_act) == positions_until_one(visit)


def test_fall_at_epoch_stops_at_next_stage():
    assert positions_until_one(epoch_event("Bought", 1), epoch_event("Annoyed", 2)) == [
        (0, ["hot", "away"], False),
        (0, ["warm", "away"], False),
        (1, ["cold", "away"], False),
    ]


def test_dormancy_at_epoch_ends_after_window():
    assert positions_until_one(epoch_event("Left", 1)) == [
        (0, ["cold", "away"], True),
        (1, ["cold", "away"], False),
    ]


def test_flips_after_epoch_wait_for_their_timer():
    result = fold_and_publish(
        COMPILED,
        StoredFold(COMPILED.initial_state(), 0, None),
        [epoch_event("Visited", 1)],
        until=-1,
        context=FoldContext(),
    )

    assert [move.at for move in result.moves] == [0]
    assert result.due == 1
