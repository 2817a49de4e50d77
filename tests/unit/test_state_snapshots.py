"""State snapshots taken by a fold step: their counts, their keys, and the fold from them on."""

import pytest

from services.scoring.domain.fold import fold
from services.scoring.domain.fold_step import StoredFold, fold_and_publish
from services.scoring.domain.publication import FoldContext
from tests.support.touchpoints import HOUR, small_cycle, touchpoint

CYCLE = small_cycle()
COMPILED = CYCLE.engine


def hourly_visits(number):
    return [CYCLE.classifier.to_fold_event(touchpoint(n * HOUR)) for n in range(number)]


def snapshots_of(events, state):
    stored = StoredFold(state, state.seq, None)
    return fold_and_publish(COMPILED, stored, events, until=-1, context=FoldContext()).snapshots


@pytest.mark.parametrize(
    ("before", "number", "counts"),
    [
        (0, 7, []),
        (0, 8, [8]),
        (0, 20, [8, 16]),
        (0, 40, [16, 24, 32, 40]),
        (0, 100, [64, 72, 80, 88, 96]),
        (3, 4, []),
        (4, 4, [8]),
        (8, 1, []),
        (8, 7, []),
        (15, 2, [16]),
        (16, 16, [24, 32]),
    ],
)
def test_snapshot_is_taken_every_eight_touchpoints(before, number, counts):
    visits = hourly_visits(before + number)
    state = COMPILED.initial_state()
    fold(COMPILED, state, visits[:before])

    snapshots = snapshots_of(visits[before:], state)

    assert [snapshot.count for snapshot in snapshots] == counts
    assert state.count == before + number


def test_fold_resumes_from_snapshot():
    visits = hourly_visits(20)
    state = COMPILED.initial_state()

    snapshots = snapshots_of(visits, state)
    resumed = [COMPILED.decode_state(snapshot.state) for snapshot in snapshots]
    for snapshot, resumed_state in zip(snapshots, resumed, strict=True):
        fold(COMPILED, resumed_state, visits[snapshot.count :])

    assert [snapshot.key for snapshot in snapshots] == [visits[7].key, visits[15].key]
    assert [resumed_state.encode() for resumed_state in resumed] == [state.encode()] * 2
