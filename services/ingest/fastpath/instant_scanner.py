"""The usual way to write an instant, read from bytes: RFC 3339 in UTC with none, three or six digits of a second."""

from typing import Final

from mypy_extensions import i64

NEVER: Final = -(1 << 62)
_DAYS: Final = (0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_LENGTHS: Final = (20, 24, 27)


def scan_instant(text: bytes) -> i64:
    """Return an instant in microseconds since 1970, or NEVER for what is written in any other way, or lies before."""
    length: i64 = len(text)
    if length not in _LENGTHS or not (
        text[4] == 45
        and text[7] == 45
        and text[10] == 84
        and text[13] == 58
        and text[16] == 58
        and text[length - 1] == 90
    ):
        return NEVER
    year, month, day = _number(text, 0, 4), _number(text, 5, 7), _number(text, 8, 10)
    hour, minute, second = _number(text, 11, 13), _number(text, 14, 16), _number(text, 17, 19)
    if (
        year < 1970
        or not 1 <= month <= 12
        or not 1 <= day <= _DAYS[month]
        or not _is_time(hour, minute, second)
    ):
        return NEVER
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if month == 2 and day == 29 and not leap:
        return NEVER
    fraction: i64 = 0
    if length != 20:
        fraction = _number(text, 20, length - 1)
        if text[19] != 46 or fraction < 0:
            return NEVER
        if length == 24:
            fraction *= 1_000
    return (
        ((_days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second
    ) * 1_000_000 + fraction


def _is_time(hour: i64, minute: i64, second: i64) -> bool:
    return 0 <= hour < 24 and 0 <= minute < 60 and 0 <= second < 60


def _number(text: bytes, begin: i64, end: i64) -> i64:
    """Return a number of digits alone, or -1."""
    found: i64 = 0
    while begin < end:
        digit: i64 = text[begin]
        if digit < 48 or digit > 57:
            return -1
        found = found * 10 + digit - 48
        begin += 1
    return found


def _days(year: i64, month: i64, day: i64) -> i64:
    """Return the days since 1970-01-01 of a date of the Gregorian calendar, by counting years from March."""
    if month <= 2:
        year -= 1
        month += 12
    return (
        365 * year
        + year // 4
        - year // 100
        + year // 400
        + (153 * (month - 3) + 2) // 5
        + day
        - 719_469
    )
