"""Time, injected. Everywhere in Perigee an instant is an integer: microseconds since 1970, UTC."""

import time
from typing import Protocol


class Clock(Protocol):
    """What tells the time."""

    def now(self) -> int:
        """Return the present instant in microseconds UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> int:
        """Return the present instant in microseconds UTC."""
        return time.time_ns() // 1_000


class FixedClock:
    """A clock for tests: it stands still until it is set."""

    def __init__(self, instant: int) -> None:
        self.instant = instant

    def now(self) -> int:
        """Return the instant it was set to."""
        return self.instant
