"""An explanation is the fold itself: contributions sum to the scores, and what holds a stage holds."""

import json
import math

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.scoring.domain.cycle import build_cycle
from services.scoring.domain.cycle_parser import parse_cycle_spec
from services.scoring.domain.explanation import explain
from services.scoring.domain.fold import advance, current_position, fold
from tests.property.test_fold import known
from tests.support.cycle_strategies import SPAN, histories, specs

slow = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@given(specs(), histories(), st.integers(0, SPAN * 2))
@slow
def test_an_explanation_is_the_fold(raw, history, at):

    cycle = build_cycle(parse_cycle_spec(json.dumps(raw), "random"))
    engine = cycle.engine
    history = known(engine, history)
    found = explain(cycle, history, at)
    state = engine.initial_state()
    moves = fold(engine, state, [o for o in history if o.at <= at])
    if state.is_empty:
        assert found is None
        return
    advance(engine, state, at, moves)
    here = current_position(engine, state)
    assert (found.stage, found.dormant, found.instance) == (here.stage, here.dormant, here.instance)
    assert [axis.stage for axis in found.axes.values()] == here.places
    assert [m.encode() for m in found.moves] == [m.encode() for m in moves]
    for name, value in zip(engine.score_names, engine.score_values_at(state, at), strict=True):
        assert found.scores[name].value == value
        total = math.fsum(c.worth for c in found.scores[name].contributions)
        assert math.isclose(total, value, rel_tol=1e-9, abs_tol=1e-9)
    for axis in found.axes.values():
        assert 0.0 <= axis.confidence <= 1.0
        if axis.held_by in ("enter", "stay"):
            assert axis.condition["holds"]
        assert not any(atom["holds"] for atom in axis.missing)
    view, later = state.copy(), []
    advance(engine, view, at + 10**6, later)
    foretold = [m.encode() for m in found.ahead if m.at <= at + 10**6]
    assert foretold == [m.encode() for m in later][: len(foretold)]
    assert len(found.ahead) == 20 or len(foretold) == len(later)
