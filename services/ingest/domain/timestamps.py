"""Instant of a touchpoint, corrected for the error of the client's clock.

Segment's rule: `timestamp = receivedAt - (sentAt - originalTimestamp)`. Without `sentAt` the
client's time is used, without any time the time of receipt. An instant in the future becomes the
time of receipt, marked as corrected.
"""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from libs.common.errors import InvalidMessage

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_SENT_AT = 64
"""Characters of a send time; a batch cuts its own off there."""
_EPOCH_WITHOUT_ZONE = datetime(1970, 1, 1)  # noqa: DTZ001


class EventTime(msgspec.Struct, frozen=True):
    """`occurred_at` is the corrected instant; `corrected` is whether it was after the receipt."""

    occurred_at: int
    sent_at: int | None
    original: int | None
    corrected: bool


def resolve_event_time(timestamp: Any, sent_at_text: Any, received_at: int) -> EventTime:
    """Apply the rule to the times of a message. Raises InvalidMessage `bad_time`."""
    original = parse_instant("timestamp", timestamp)
    if original is None:
        return EventTime(received_at, None, None, corrected=False)
    sent_at = parse_sent_at(sent_at_text)
    occurred_at = original if sent_at is None else received_at - (sent_at - original)
    if occurred_at > received_at:
        return EventTime(received_at, sent_at, original, corrected=True)
    if occurred_at < 0:
        raise InvalidMessage("bad_time", f"timestamp {timestamp!r:.40} lies before 1970")
    return EventTime(occurred_at, sent_at, original, corrected=False)


def parse_sent_at(value: Any) -> int | None:
    """Parse a send time; None if unreadable, since it only corrects a clock."""
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_SENT_AT:
        return None
    try:
        return _cached_instant("sentAt", value)
    except InvalidMessage:
        return None


def parse_instant(field: str, value: Any) -> int | None:
    """Parse an RFC 3339 time with any number of fraction digits; without an offset it is UTC."""
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise InvalidMessage("bad_time", f"{field} is {value!r:.40}: an RFC 3339 string is needed")
    return _instant(field, value)


def _instant(field: str, value: str) -> int:
    try:
        moment = datetime.fromisoformat(value.strip())
        since = moment - (_EPOCH if moment.tzinfo is not None else _EPOCH_WITHOUT_ZONE)
    except ValueError:
        raise InvalidMessage(
            "bad_time", f"{field} is {value!r:.40}: not an RFC 3339 time"
        ) from None
    except OverflowError:
        raise InvalidMessage("bad_time", f"{field} is {value!r:.40}: out of range") from None
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


_cached_instant = lru_cache(1_024)(_instant)
"""Cached, since all messages of a batch have the same send time."""
