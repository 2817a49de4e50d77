"""Instants that people mean: after so long, at nine in the morning where the contact is, on a weekday.

A local time that a change to summer time leaves out is the instant at which that hour would have been (02:30 becomes 03:30);
one that comes twice is its first.
"""

from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from libs.common.instants import EPOCH, from_datetime

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def load_time_zone(name: str) -> ZoneInfo:
    """Return the time zone of a name, UTC where there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


def to_local(now: int, zone: ZoneInfo) -> datetime:
    """Return an instant (µs UTC) as people of the zone see it, exactly."""
    return (EPOCH + timedelta(microseconds=now)).astimezone(zone)


def local_instant(day: date, clock: time, zone: ZoneInfo) -> int:
    """Return the instant (µs UTC) of a local time on a day."""
    return from_datetime(datetime.combine(day, clock, tzinfo=zone).astimezone(UTC))


def next_local_time(
    now: int, clock: time, zone: ZoneInfo, weekdays: frozenset[str] = frozenset(WEEKDAYS)
) -> int:
    """Return the first instant, not before `now`, at which it is `clock` in the zone on one of the weekdays."""
    day = to_local(now, zone).date() - timedelta(days=1)
    while True:
        found = local_instant(day, clock, zone)
        if found >= now and WEEKDAYS[day.weekday()] in weekdays:
            return found
        day += timedelta(days=1)
