"""Time, injected. Everywhere in Perigee an instant is an integer: microseconds since 1970, UTC."""

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

MICROSECOND = 1
MILLISECOND = 1_000
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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


def from_datetime(moment: datetime) -> int:
    """Return the instant of an aware datetime, exactly."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def to_datetime(instant: int) -> datetime:
    """Return the aware datetime (UTC) of an instant."""
    return EPOCH + timedelta(microseconds=instant)


def from_iso(text: str) -> int:
    """Return the instant of an RFC 3339 text; without an offset it is UTC. Raises ValueError.

    >>> from_iso("1970-01-01T00:00:01Z")
    1000000
    """
    moment = datetime.fromisoformat(text)
    return from_datetime(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def to_iso(instant: int) -> str:
    """Return the instant as RFC 3339 with microseconds, in UTC.

    >>> to_iso(0)
    '1970-01-01T00:00:00.000000Z'
    """
    return to_datetime(instant).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
