"""Clock, injected where time is read; an instant is an integer: microseconds since 1970, UTC."""

import time
from typing import Protocol


class Clock(Protocol):
    """Source of the current instant."""

    def now(self) -> int:
        """Return the current instant in microseconds UTC."""
        ...


class SystemClock:
    """The operating system's clock."""

    def now(self) -> int:
        """Return the current instant in microseconds UTC."""
        return time.time_ns() // 1_000


class FixedClock:
    """Clock for tests: constant until `instant` is set."""

    def __init__(self, instant: int) -> None:
        self.instant = instant

    def now(self) -> int:
        """Return `instant`."""
        return self.instant
