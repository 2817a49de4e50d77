"""The fold is what a brute force that looks at every microsecond finds, and no order, batch or advance leaves a trace."""

import json

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.scoring.domain import fold_state as states
from services.scoring.domain.cycle_compiler import compile_cycle
from services.scoring.domain.cycle_parser import parse_cycle_spec
from services.scoring.domain.fold import advance, fold
from services.scoring.domain.move import decode_move
from tests.support.cycle_strategies import SPAN, histories, specs
from tests.support.reference_fold import ReferenceFold

slow = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def engine_of(raw):
    return compile_cycle(parse_cycle_spec(json.dumps(raw), "random"))


def known(engine, history):
    """Return the history as the classifier would hand it over: only the traits that the cycle looks at."""
    return [
        msgspec.structs.replace(
            o, traits={k: v for k, v in o.traits.items() if k in engine.trait_names}
        )
        for o in history
    ]


def seen(moves):
    return [
        (
            m.at,
            m.timed,
            m.message_id,
            m.after.stage,
            tuple(m.after.places),
            m.after.dormant,
            m.after.instance,
        )
        for m in moves
    ]


@given(specs(), histories())
@slow
def test_fold_and_advance_equal_brute_force(raw, history):
    engine = engine_of(raw)
    history = known(engine, history)
    state, moves = engine.initial_state(), []
    moves += fold(engine, state, history)
    advance(engine, state, SPAN * 2, moves)
    assert seen(moves) == ReferenceFold(engine.spec).run(history, SPAN * 2)


@given(specs(), histories(max_size=10, instants=6))
@slow
def test_touchpoints_at_one_instant_equal_brute_force(raw, history):
    engine = engine_of(raw)
    history = known(engine, history)
    state, moves = engine.initial_state(), []
    moves += fold(engine, state, history)
    advance(engine, state, SPAN, moves)
    assert seen(moves) == ReferenceFold(engine.spec).run(history, SPAN)


@given(specs(), histories(), st.data())
@slow
def test_batches_cold_loads_and_advances_leave_no_trace(raw, history, data):
    engine = engine_of(raw)
    history = known(engine, history)
    whole = engine.initial_state()
    moves = fold(engine, whole, history)
    state, parts = engine.initial_state(), []
    rest = list(history)
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        parts += fold(engine, state, rest[:size])
        rest = rest[size:]
        state = states.decode_state(state.encode(), engine.atoms)
        view = state.copy()
        advance(engine, view, data.draw(st.integers(0, SPAN)), [])
    assert state.encode() == whole.encode()
    assert [m.encode() for m in parts] == [m.encode() for m in moves]


@given(specs(), histories(), st.integers(0, SPAN * 2), st.integers(0, SPAN * 2))
@slow
def test_advance_composes_and_changes_no_value(raw, history, first, second):
    engine = engine_of(raw)
    history = known(engine, history)
    state = engine.initial_state()
    fold(engine, state, history)
    early, late = sorted((first, second))
    at_once, step = state.copy(), state.copy()
    one, two = [], []
    advance(engine, at_once, late, one)
    advance(engine, step, early, two)
    advance(engine, step, late, two)
    assert [m.encode() for m in one] == [m.encode() for m in two]
    assert at_once.encode() == step.encode()
    assert (at_once.values, at_once.as_of) == (state.values, state.as_of)


@given(specs(), histories())
@slow
def test_a_move_survives_its_bytes_and_starts_where_the_last_one_ended(raw, history):
    engine = engine_of(raw)
    history = known(engine, history)
    state = engine.initial_state()
    moves = fold(engine, state, history)
    advance(engine, state, SPAN * 2, moves)
    for before, move in zip([None, *moves], moves, strict=False):
        assert decode_move(move.encode()) == move
        assert move.before == (before.after if before else None)
        assert before is None or (move.key > before.key and move.seq == before.seq + 1)
