"""One fold step: its due instant, moves by time, published position and stored fold."""

import msgspec
import pytest

from libs.common.decay import FOREVER
from services.scoring.domain.fold_step import StoredFold, fold_and_publish
from services.scoring.domain.publication import FoldContext
from tests.support.contact_simulator import ContactSimulator
from tests.support.touchpoints import DAY, START, small_cycle, touchpoint

CYCLE = small_cycle()
COOLING = START + 2 * DAY + 1
"""4 points decay below 1 just after two half-lives."""
GRUMPY = small_cycle("""
cycle: grumpy
version: "1"
scores: {warmth: {half_life: 1d}}
signals:
  annoyed: {match: [{name: Annoyed}], adds: [{score: warmth, points: -2}]}
axes:
  - name: buying
    stages: [{name: cold}, {name: warm, enter: {score: warmth, at_least: 4}}]
  - name: sales
    stages: [{name: open}, {name: tame, enter: {score: warmth, at_least: -3}}]
stages: [{name: any, ring: 0}]
map: {open: {cold: any, warm: any}, tame: {cold: any, warm: any}}
dormant: {score: warmth, below: -4}
""")


def empty_fold(cycle=CYCLE):
    return StoredFold(cycle.engine.initial_state(), 0, None)


def fold_step(stored, *touchpoints, cycle=CYCLE, until=-1, publish=True):
    return fold_and_publish(
        cycle.engine,
        stored,
        [cycle.classifier.to_fold_event(t) for t in touchpoints],
        until=until,
        context=FoldContext(),
        publish=publish,
    )


@pytest.fixture
def simulator():
    """Return a contact of the small cycle."""
    return ContactSimulator(CYCLE.engine)


def arrive(simulator, at, name="Home"):
    simulator.arrive(CYCLE.classifier.to_fold_event(touchpoint(at, name)))


@pytest.mark.parametrize(
    ("until", "due"), [(-1, COOLING), (COOLING, START + 10 * DAY), (START + 10 * DAY, FOREVER)]
)
def test_step_is_due_at_next_flip(until, due):
    assert fold_step(empty_fold(), touchpoint(0), until=until).due == due


def test_contact_beyond_every_crossing_is_never_due():
    """-2 decays towards 0: it stays above -3 and -4, and below 4."""
    result = fold_step(empty_fold(GRUMPY), touchpoint(0, "Annoyed"), cycle=GRUMPY)

    assert result.moves[0].after.places == ["cold", "tame"]
    assert result.due == FOREVER


@pytest.mark.parametrize(("until", "flips"), [(COOLING - 1, []), (COOLING, [COOLING])])
def test_timer_flips_exactly_when_due(until, flips):
    stored = fold_step(empty_fold(), touchpoint(0)).stored_fold

    assert [move.at for move in fold_step(stored, until=until).moves] == flips


def test_stored_state_excludes_moves_by_time():
    result = fold_step(empty_fold(), touchpoint(0), until=COOLING)

    assert [move.seq for move in result.moves] == [1, 2]
    assert (result.stored_fold.state.seq, result.stored_fold.stored_seq) == (1, 2)


def test_shadow_has_moves_and_publishes_nothing():
    result = fold_step(empty_fold(), touchpoint(0), publish=False)

    assert len(result.moves) == 1
    assert result.changes == []
    assert result.stored_fold.published is None


def test_step_without_touchpoints_publishes_nothing():
    result = fold_step(empty_fold())

    assert (result.moves, result.changes, result.stored_fold.published) == ([], [], None)
    assert result.due == FOREVER


def test_published_position_takes_current_cycle_version():
    stored = fold_step(empty_fold(), touchpoint(0)).stored_fold
    stored.published = msgspec.structs.replace(stored.published, version="earlier")

    result = fold_step(stored)

    assert result.changes == []
    assert result.stored_fold.published.version == CYCLE.engine.version


def test_touchpoint_before_published_flip_keeps_it(simulator):
    arrive(simulator, 0, "Product Viewed")
    simulator.tick(COOLING)

    arrive(simulator, DAY)

    assert [move.at for move in simulator.rows.values()] == [START, COOLING]
    assert [change.direction for change in simulator.published] == ["entry", "regression"]


def test_touchpoint_withdraws_published_dormancy_without_move(simulator):
    arrive(simulator, 0, "Product Viewed")
    arrive(simulator, 5 * DAY)
    simulator.tick(START + 15 * DAY)

    arrive(simulator, 14 * DAY)
    dormancy, correction = simulator.published[-2:]

    assert not any(move.after.dormant for move in simulator.rows.values())
    assert (dormancy.direction, correction.direction) == ("dormancy", "re_entry")
    assert correction.reason == "corrected"
