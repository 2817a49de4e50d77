"""Exponential back-off with a cap and jitter."""

from collections.abc import Callable

RandomSource = Callable[[], float]
"""Function that draws a number in [0, 1)."""


def backoff(attempt: int, *, base: int, cap: int, chance: float) -> int:
    """Return the wait before attempt `attempt + 1`, in the unit of `base` and `cap`.

    The n-th wait lies between half of `base * 2**(n-1)` and all of it, never above `cap`: the
    jitter spreads clients that failed together, and no wait is close to zero. `chance` is a number
    in [0, 1) drawn by the caller, so that the function stays pure.

    >>> backoff(3, base=1000, cap=60_000, chance=0.0)
    2000
    """
    longest = min(cap, base * 2 ** min(attempt - 1, 40))
    return int(longest / 2 + longest / 2 * chance)
