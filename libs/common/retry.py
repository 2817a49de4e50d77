"""How long to wait before trying again: a pure function with a cap and jitter."""

from collections.abc import Callable

RandomSource = Callable[[], float]
"""What draws a number in [0, 1)."""


def backoff(attempt: int, *, base: int, cap: int, chance: float) -> int:
    """Return the wait before attempt `attempt + 1`, in the unit of `base` and `cap`.

    Exponential with full jitter in the upper half (so two clients part, and neither hurries): the n-th wait lies
    between half of `base * 2**(n-1)` and all of it, never above `cap`. `chance` is a number in [0, 1) drawn by the
    caller, so that the function stays pure.

    >>> backoff(3, base=1000, cap=60_000, chance=0.0)
    2000
    """
    whole = min(cap, base * 2 ** min(attempt - 1, 40))
    return int(whole / 2 + whole / 2 * chance)
