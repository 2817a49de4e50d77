"""When a touchpoint occurred, by the sender's clock put right.

Segment's rule: `timestamp = receivedAt - (sentAt - originalTimestamp)`; without `sentAt` the sender's time stands;
without any time it is the time of receipt. An instant in the future becomes the time of receipt, and says so.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from libs.common.cached import cached
from libs.common.errors import InvalidMessage

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LONG_FRACTION = re.compile(r"(\.\d{6})\d+")


class Timing(msgspec.Struct, frozen=True):
    """`occurred_at` is the corrected instant; `corrected` says that it lay after the receipt."""

    occurred_at: int
    sent_at: int | None
    original: int | None
    corrected: bool


def timing(message: dict[str, Any], batch_sent_at: Any, received_at: int) -> Timing:
    """Apply the rule to one message. Raises InvalidMessage `bad_time` for a time that cannot be read."""
    original = instant("timestamp", message.get("timestamp") or message.get("originalTimestamp"))
    if original is None:
        return Timing(received_at, None, None, corrected=False)
    sent_at = instant("sentAt", message.get("sentAt") or batch_sent_at)
    occurred_at = original if sent_at is None else received_at - (sent_at - original)
    if occurred_at > received_at:
        return Timing(received_at, sent_at, original, corrected=True)
    if occurred_at < 0:
        raise InvalidMessage("bad_time", f"timestamp {message.get('timestamp')!r} lies before 1970")
    return Timing(occurred_at, sent_at, original, corrected=False)


def instant(field: str, value: Any) -> int | None:
    """Read an RFC 3339 time with any number of fraction digits; a time without an offset is UTC."""
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise InvalidMessage("bad_time", f"{field} is {value!r:.40}: an RFC 3339 string is needed")
    return _instant(field, value)


@cached(1_024)
def _instant(field: str, value: str) -> int:
    """Read a time; a batch's own is read once for each of its messages."""
    try:
        moment = datetime.fromisoformat(_LONG_FRACTION.sub(r"\1", value.strip()))
    except ValueError:
        raise InvalidMessage("bad_time", f"{field} is {value!r:.40}: not an RFC 3339 time") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        return (moment - _EPOCH) // timedelta(microseconds=1)
    except OverflowError:
        raise InvalidMessage("bad_time", f"{field} is {value!r:.40}: out of range") from None
