"""Exponential decay against decimal arithmetic, and threshold crossings against brute force."""

from decimal import Context, Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.decay import FOREVER, MAX_HALF_LIFE, _bracket, decay, find_crossing

_exact = Context(prec=60)


@given(st.integers(0, 50 * MAX_HALF_LIFE), st.integers(1, MAX_HALF_LIFE))
@settings(max_examples=500)
def test_decay_is_within_two_ulp(elapsed, half_life):
    if elapsed // half_life > 900:
        return
    power = _exact.divide(Decimal(-elapsed), Decimal(half_life))
    exact = _exact.power(Decimal(2), power)

    computed = Decimal(decay(elapsed, half_life))

    assert abs(computed - exact) <= exact * Decimal(2) ** -51


@given(st.integers(0, MAX_HALF_LIFE * 3), st.integers(1_000, MAX_HALF_LIFE))
@settings(max_examples=500)
def test_decay_falls_every_microsecond(elapsed, half_life):
    if elapsed // half_life < 900:
        assert decay(elapsed + 1, half_life) < decay(elapsed, half_life)


def test_decay_halves_exactly():
    assert [decay(n * 7, 7) for n in range(4)] == [1.0, 0.5, 0.25, 0.125]
    assert decay(10**30, 1) > 0


@given(
    st.floats(-1e6, 1e6, allow_nan=False).filter(lambda v: abs(v) > 1e-6),
    st.floats(-1e3, 1e3, allow_nan=False).filter(lambda v: abs(v) > 1e-6),
    st.integers(1, MAX_HALF_LIFE),
)
@settings(max_examples=1000)
def test_crossing_is_first_microsecond_on_other_side(value, threshold, half_life):
    crossing = find_crossing(value, threshold, half_life)
    reached = value >= threshold

    if crossing >= FOREVER:
        assert (threshold <= 0.0) == reached
        return
    assert (value * decay(crossing, half_life) >= threshold) != reached
    assert crossing == 1 or (value * decay(crossing - 1, half_life) >= threshold) == reached


@given(st.integers(1, 60), st.integers(1, 40), st.integers(1, 40))
def test_small_crossings_equal_brute_force(half_life, value, threshold):
    crossings = (
        elapsed
        for elapsed in range(1, 2000)
        if (value * decay(elapsed, half_life) >= threshold) != (value >= threshold)
    )

    assert find_crossing(float(value), float(threshold), half_life) == next(crossings, FOREVER)


def test_score_at_threshold_crosses_at_once():
    assert find_crossing(5.0, 5.0, MAX_HALF_LIFE) >= 1

    crossing = find_crossing(5.0, 5.0, MAX_HALF_LIFE)

    assert 5.0 * decay(crossing, MAX_HALF_LIFE) < 5.0


def test_decay_is_bit_identical_everywhere():
    assert [decay(elapsed, 1000).hex() for elapsed in (1, 7, 333, 999)] == [
        "0x1.ffa52de61c11fp-1",
        "0x1.fd85933707057p-1",
        "0x1.9677f46057bdep-1",
        "0x1.002d711c79a95p-1",
    ]


def test_decay_falls_within_its_last_half_life():
    assert decay(1_000_500, 1_000) < decay(1_000_000, 1_000)
    assert decay(1_001_000, 1_000) == decay(1_000_000, 1_000)


@pytest.mark.parametrize(
    ("guess", "bracket"),
    [
        (3_000_000, (2_999_998, 3_000_002)),
        (3_000_002, (3_000_000, 3_000_004)),
        (2_999_998, (2_999_996, 3_000_008)),
        (3_000_010, (3_000_000, 3_000_012)),
        (3_000_050, (2_999_880, 3_000_052)),
        (0, (0, 11_184_810)),
    ],
)
def test_bracket_widens_around_wrong_guess(guess, bracket):
    """8 falls below 1 right after three half-lives."""
    assert _bracket(8.0, 1.0, 1_000_000, guess, above=True) == bracket


def test_bracket_begins_at_zero_and_grows_with_half_life():
    century = 10**14

    assert _bracket(1.0, 1.0, 1, 3, above=True) == (0, 5)
    assert _bracket(8.0, 1.0, century, 3 * century, above=True) == (
        3 * century - 3,
        3 * century + 3,
    )
