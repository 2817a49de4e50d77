"""Conversions between instants and local times of a time zone.

A local time that a change to summer time skips is shifted by the change (02:30 becomes 03:30); a
local time that occurs twice is the first one.
"""

from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from libs.common.instants import EPOCH, from_datetime

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def load_time_zone(name: str) -> ZoneInfo:
    """Return the time zone of a name, UTC if the name is unknown."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


def to_local(now: int, zone: ZoneInfo) -> datetime:
    """Return an instant (µs UTC) as a local datetime of the zone, without rounding."""
    return (EPOCH + timedelta(microseconds=now)).astimezone(zone)


def local_instant(day: date, clock: time, zone: ZoneInfo) -> int:
    """Return the instant (µs UTC) of a local time on a day."""
    return from_datetime(datetime.combine(day, clock, tzinfo=zone).astimezone(UTC))


def next_local_time(
    now: int, clock: time, zone: ZoneInfo, weekdays: frozenset[str] = frozenset(WEEKDAYS)
) -> int:
    """Return the first instant from `now` on with the local time `clock` on one of the weekdays."""
    day = to_local(now, zone).date() - timedelta(days=1)
    while True:
        instant = local_instant(day, clock, zone)
        if instant >= now and WEEKDAYS[day.weekday()] in weekdays:
            return instant
        day += timedelta(days=1)
