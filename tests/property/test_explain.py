"""Explanations equal the fold: contributions sum to the scores, and stage conditions are true."""

import json
import math

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.scoring.domain.cycle import build_cycle
from services.scoring.domain.cycle_parser import parse_cycle_spec
from services.scoring.domain.explanation import explain
from services.scoring.domain.fold import advance, current_position, fold
from tests.property.test_fold import with_known_traits
from tests.support.cycle_strategies import SPAN, histories, specs

slow = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@given(specs(), histories(), st.integers(0, SPAN * 2))
@slow
def test_explanation_equals_fold(raw, history, at):
    cycle = build_cycle(parse_cycle_spec(json.dumps(raw), "random"))
    compiled = cycle.engine
    history = with_known_traits(compiled, history)
    state = compiled.initial_state()

    explanation = explain(cycle, history, at)
    moves = fold(compiled, state, [event for event in history if event.at <= at])

    if state.is_empty:
        assert explanation is None
        return

    advance(compiled, state, at, moves)
    position = current_position(compiled, state)

    assert (explanation.stage, explanation.dormant, explanation.instance) == (
        position.stage,
        position.dormant,
        position.instance,
    )
    assert [axis.stage for axis in explanation.axes.values()] == position.places
    assert [m.encode() for m in explanation.moves] == [m.encode() for m in moves]
    for name, value in zip(compiled.score_names, compiled.score_values_at(state, at), strict=True):
        assert explanation.scores[name].value == value
        total = math.fsum(c.worth for c in explanation.scores[name].contributions)
        assert math.isclose(total, value, rel_tol=1e-9, abs_tol=1e-9)
    for axis in explanation.axes.values():
        assert 0.0 <= axis.confidence <= 1.0
        if axis.held_by in ("enter", "stay"):
            assert axis.condition["holds"]
        assert not any(atom["holds"] for atom in axis.missing)

    later_state, later_moves = state.copy(), []
    advance(compiled, later_state, at + 10**6, later_moves)
    forecast = [m.encode() for m in explanation.ahead if m.at <= at + 10**6]

    assert forecast == [m.encode() for m in later_moves][: len(forecast)]
    assert len(explanation.ahead) == 20 or len(forecast) == len(later_moves)
