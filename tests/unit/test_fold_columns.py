"""What others read of scoring's columns is what scoring writes there."""

import msgspec

from libs.common.db import fold_columns
from services.scoring.domain.fold import current_position, fold
from services.scoring.domain.publication import PublishedPosition
from tests.support.touchpoints import HOUR, START, shipped, touchpoint

CYCLE = shipped()


def test_what_is_read_is_what_was_written():
    state = CYCLE.engine.initial_state()
    calls = [
        touchpoint(HOUR, "Content Downloaded"),
        touchpoint(3 * HOUR, "Email Sent", initiative="brand"),
    ]
    fold(CYCLE.engine, state, [CYCLE.classifier.to_fold_event(one) for one in calls])
    values, instants, last_act = fold_columns.decode_scores(state.encode())
    assert values == state.values
    assert dict(zip(CYCLE.engine.score_names, values, strict=True))["interest"] == 8.0
    assert instants[CYCLE.engine.score_names.index("interest")] == START + HOUR
    assert last_act == START + HOUR, "what we sent is no act of the contact's"
    at = current_position(CYCLE.engine, state)
    told = PublishedPosition(3, (START, True, "web", "m"), at, "1")
    assert fold_columns.decode_axis_places(msgspec.msgpack.encode(told)) == at.places
    assert fold_columns.decode_scores(None) == ([], [], None)
    assert fold_columns.decode_scores(CYCLE.engine.initial_state().encode())[2] is None
