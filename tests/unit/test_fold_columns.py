"""Columns written by scoring decode to the same values for other services."""

import msgspec

from libs.common.db import fold_columns
from services.scoring.domain.fold import current_position, fold
from services.scoring.domain.publication import PublishedPosition
from tests.support.touchpoints import HOUR, START, shipped, touchpoint

CYCLE = shipped()


def test_decoded_columns_equal_the_fold_state():
    state = CYCLE.engine.initial_state()
    touchpoints = [
        touchpoint(HOUR, "Content Downloaded"),
        touchpoint(3 * HOUR, "Email Sent", initiative="brand"),
    ]

    fold(CYCLE.engine, state, [CYCLE.classifier.to_fold_event(t) for t in touchpoints])
    values, instants, last_act = fold_columns.decode_scores(state.encode())

    assert values == state.values
    assert dict(zip(CYCLE.engine.score_names, values, strict=True))["interest"] == 8.0
    assert instants[CYCLE.engine.score_names.index("interest")] == START + HOUR
    assert last_act == START + HOUR, "a sent e-mail is no act of the contact"

    position = current_position(CYCLE.engine, state)
    published = PublishedPosition(3, (START, True, "web", "m"), position, "1")

    assert fold_columns.decode_axis_places(msgspec.msgpack.encode(published)) == position.places
    assert fold_columns.decode_scores(None) == ([], [], None)
    assert fold_columns.decode_scores(CYCLE.engine.initial_state().encode())[2] is None
