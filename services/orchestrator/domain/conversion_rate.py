"""Conversion rates with confidence intervals."""

from math import sqrt

import msgspec

_Z = 1.96


class ConversionRate(msgspec.Struct, frozen=True):
    """The conversion rate of a group, with its 95 % Wilson score interval."""

    group: str
    entered: int
    reached: int
    rate: float
    low: float
    high: float


def wilson_rate(group: str, entered: int, reached: int) -> ConversionRate:
    """Return a group's rate.

    >>> wilson_rate("all", 10, 5).rate
    0.5
    """
    if not entered:
        return ConversionRate(group, 0, 0, 0.0, 0.0, 1.0)
    rate = reached / entered
    middle = (rate + _Z * _Z / (2 * entered)) / (1 + _Z * _Z / entered)
    spread = (
        _Z
        * sqrt(rate * (1 - rate) / entered + _Z * _Z / (4 * entered * entered))
        / (1 + _Z * _Z / entered)
    )
    return ConversionRate(
        group, entered, reached, rate, max(0.0, middle - spread), min(1.0, middle + spread)
    )
