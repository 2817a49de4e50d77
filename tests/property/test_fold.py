"""The fold equals a brute-force reference, for any batching, reload or advance."""

import json

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.scoring.domain.cycle_compiler import compile_cycle
from services.scoring.domain.cycle_parser import parse_cycle_spec
from services.scoring.domain.fold import advance, fold
from services.scoring.domain.move import decode_move
from tests.support.cycle_strategies import SPAN, histories, specs
from tests.support.reference_fold import ReferenceFold

slow = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def compile_random_cycle(raw):
    return compile_cycle(parse_cycle_spec(json.dumps(raw), "random"))


def with_known_traits(compiled, history):
    """Return the history with only the traits that the cycle uses, as the classifier does."""
    return [
        msgspec.structs.replace(
            event, traits={k: v for k, v in event.traits.items() if k in compiled.trait_names}
        )
        for event in history
    ]


def observable(moves):
    """Return the fields of moves that the reference computes."""
    return [
        (
            move.at,
            move.timed,
            move.message_id,
            move.after.stage,
            tuple(move.after.places),
            move.after.dormant,
            move.after.instance,
        )
        for move in moves
    ]


@given(specs(), histories())
@slow
def test_fold_and_advance_equal_brute_force(raw, history):
    compiled = compile_random_cycle(raw)
    history = with_known_traits(compiled, history)
    state, moves = compiled.initial_state(), []

    moves += fold(compiled, state, history)
    advance(compiled, state, SPAN * 2, moves)

    assert observable(moves) == ReferenceFold(compiled.spec).run(history, SPAN * 2)


@given(specs(), histories(max_size=10, instants=6))
@slow
def test_simultaneous_touchpoints_equal_brute_force(raw, history):
    compiled = compile_random_cycle(raw)
    history = with_known_traits(compiled, history)
    state, moves = compiled.initial_state(), []

    moves += fold(compiled, state, history)
    advance(compiled, state, SPAN, moves)

    assert observable(moves) == ReferenceFold(compiled.spec).run(history, SPAN)


@given(specs(), histories(), st.data())
@slow
def test_batches_reloads_and_advances_leave_state_unchanged(raw, history, data):
    compiled = compile_random_cycle(raw)
    history = with_known_traits(compiled, history)
    expected_state = compiled.initial_state()
    expected_moves = fold(compiled, expected_state, history)
    state, batch_moves = compiled.initial_state(), []
    remaining = list(history)

    while remaining:
        size = data.draw(st.integers(1, len(remaining)))
        batch_moves += fold(compiled, state, remaining[:size])
        remaining = remaining[size:]
        state = compiled.decode_state(state.encode())
        view = state.copy()
        advance(compiled, view, data.draw(st.integers(0, SPAN)), [])

    assert state.encode() == expected_state.encode()
    assert [move.encode() for move in batch_moves] == [move.encode() for move in expected_moves]


@given(specs(), histories(), st.integers(0, SPAN * 2), st.integers(0, SPAN * 2))
@slow
def test_advance_composes_and_changes_no_value(raw, history, first, second):
    compiled = compile_random_cycle(raw)
    history = with_known_traits(compiled, history)
    state = compiled.initial_state()
    fold(compiled, state, history)
    early, late = sorted((first, second))
    direct, stepwise = state.copy(), state.copy()
    direct_moves, stepwise_moves = [], []

    advance(compiled, direct, late, direct_moves)
    advance(compiled, stepwise, early, stepwise_moves)
    advance(compiled, stepwise, late, stepwise_moves)

    assert [move.encode() for move in direct_moves] == [move.encode() for move in stepwise_moves]
    assert direct.encode() == stepwise.encode()
    assert (direct.values, direct.as_of) == (state.values, state.as_of)


@given(specs(), histories())
@slow
def test_moves_decode_and_form_a_chain(raw, history):
    compiled = compile_random_cycle(raw)
    history = with_known_traits(compiled, history)
    state = compiled.initial_state()

    moves = fold(compiled, state, history)
    advance(compiled, state, SPAN * 2, moves)

    for previous, move in zip([None, *moves], moves, strict=False):
        assert decode_move(move.encode()) == move
        assert move.before == (previous.after if previous else None)
        assert previous is None or (move.key > previous.key and move.seq == previous.seq + 1)


@given(specs(), histories())
@slow
def test_copy_equals_state_and_is_independent(raw, history):
    compiled = compile_random_cycle(raw)
    history = with_known_traits(compiled, history)
    state = compiled.initial_state()
    fold(compiled, state, history[:-1])
    facts = state.encode()

    copied_state = state.copy()

    assert copied_state.encode() == facts

    fold(compiled, copied_state, history[-1:])

    assert state.encode() == facts
    assert (state.count, copied_state.count) == (len(history) - 1, len(history))
