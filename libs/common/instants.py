"""Instants: integers, microseconds since 1970, UTC; conversions to datetime and RFC 3339."""

from datetime import UTC, datetime, timedelta

MICROSECOND = 1
MILLISECOND = 1_000
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def from_datetime(moment: datetime) -> int:
    """Return the instant of an aware datetime, exactly."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def to_datetime(instant: int) -> datetime:
    """Return the aware datetime (UTC) of an instant."""
    return EPOCH + timedelta(microseconds=instant)


def from_iso(text: str) -> int:
    """Return the instant of an RFC 3339 text, UTC without an offset. Raises ValueError.

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
