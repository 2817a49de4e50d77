"""Exponential decay on doubles, bit-identical on every machine, and its exact crossings.

`decay(k, h) = 2**(-k/h)`; k and h are integer microseconds. The definition avoids libm, whose last
bit differs between builds: a 128-entry table, a degree-5 polynomial and an exact power of two need
only + - * / on doubles. It is strictly monotone per microsecond up to half-lives of ten years,
hence the limit. `math.log2` gives a first guess at a crossing; bisection on the definition gives
the exact microsecond.
"""

import math
from decimal import Context, Decimal
from typing import Final

MAX_HALF_LIFE: Final = 3653 * 24 * 3600 * 1_000_000
"""Ten years, in microseconds: the longest half-life for which strict monotonicity is tested."""

FOREVER: Final = 1 << 62
"""An instant later than any other, in microseconds UTC."""

_STEPS: Final = 128
_context = Context(prec=40)
_LN2_STEP: Final = float(_context.divide(_context.ln(Decimal(2)), Decimal(_STEPS)))
_TABLE: Final[list[float]] = [
    float(_context.power(Decimal(2), Decimal(-i) / _STEPS)) for i in range(_STEPS + 1)
]
_HALVES: Final[list[float]] = [2.0**-n for n in range(1001)]


def decay(elapsed: int, half_life: int) -> float:
    """Return 2**(-elapsed/half_life), both in microseconds, elapsed >= 0.

    After more than 1,000 whole half-lives the result is 2**-1000: it never underflows to 0.
    """
    halves = elapsed // half_life
    if halves > 1000:
        return _HALVES[1000]
    scaled = (elapsed - halves * half_life) / half_life * _STEPS
    step = int(scaled)
    x = (scaled - step) * _LN2_STEP
    # exp(-x) for 0 <= x < ln2/128: the next term is below 4e-17.
    tail = 1.0 - x * (1.0 - x * (0.5 - x * (1.0 / 6.0 - x * (1.0 / 24.0 - x / 120.0))))
    return _TABLE[step] * tail * _HALVES[halves]


def find_crossing(value: float, threshold: float, half_life: int) -> int:
    """Return the microseconds until the comparison of a decaying value with a threshold changes.

    That is the smallest k >= 1 at which `value * decay(k) >= threshold` differs from `value >=
    threshold`; FOREVER when it never does. `threshold` is not 0. A value that decays towards 0
    crosses at most one threshold of its own sign, and crosses it once.
    """
    above = value >= threshold
    if above == (threshold <= 0.0) or value == 0.0:
        return FOREVER
    guess = int(half_life * math.log2(value / threshold))
    low, high = _bracket(value, threshold, half_life, guess, above)
    while high - low > 1:
        middle = (low + high) // 2
        if (value * decay(middle, half_life) >= threshold) == above:
            low = middle
        else:
            high = middle
    return high


def _bracket(
    value: float, threshold: float, half_life: int, guess: int, above: bool
) -> tuple[int, int]:
    """Return (low, high) around the guess: comparison unchanged at low, changed at high."""
    width = 2 + half_life // 100_000_000_000_000
    low, high = max(0, guess - width), max(1, guess + width)
    while low > 0 and (value * decay(low, half_life) >= threshold) != above:
        width *= 4
        low = max(0, low - width)
    while (value * decay(high, half_life) >= threshold) == above:
        width *= 4
        high += width
    return low, high
