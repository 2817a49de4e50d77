"""A plain call, read from its bytes: its texts need no cleaning, its times are written as usual, it says nothing that few say.

What is anything else is for the way that takes everything (`normalise`); so is what is refused.
"""

from typing import Final

from mypy_extensions import i64

from services.ingest.fastpath.instant_scanner import NEVER, scan_instant
from services.ingest.fastpath.json_scanner import MemberHandler, after_space, is_plain, object_end
from services.ingest.fastpath.name_table import NameTable

MAX_BYTES: Final = 32 * 1024
"""Bytes of a call that is read this way."""
LEVELS: Final = 7
"""Levels that a call may have."""
_QUOTE: Final = 34
_N: Final = 110
_MAX_ID: Final = 512
_NULL: Final = b"null"
_FIELDS: Final = NameTable(
    {
        b"type": 1,
        b"messageId": 2,
        b"userId": 3,
        b"anonymousId": 4,
        b"event": 5,
        b"name": 6,
        b"timestamp": 7,
        b"originalTimestamp": 8,
        b"sentAt": 9,
        b"properties": 10,
        b"context": 11,
        **dict.fromkeys((b"traits", b"groupId", b"previousId", b"userHash"), 12),
    }
)
_IDS: Final = 4
"""Up to this one texts go into keys and headers too, and so have no escapes."""
_PROPERTIES: Final = 10
_CONTEXT: Final = 11
_LOOKED_AT: Final = 12
"""By the other way, unless it says nothing."""
_NAME: Final = 1
_WORTH: Final = 2
_CONTENT: Final = 3
_TELLING: Final = NameTable(
    {
        b"name": _NAME,
        **dict.fromkeys(
            (b"value", b"revenue", b"total", b"currency", b"sentiment", b"effort"), _WORTH
        ),
        **dict.fromkeys((b"content", b"content_id", b"content_type"), _CONTENT),
    }
)


class _Properties(MemberHandler):
    """What properties say that matters beside their being kept."""

    def __init__(self) -> None:
        self.title = b""
        """What some libraries call a page, with its quotes; empty: nothing."""
        self.some = False
        self.worth = False
        """Whether they may say what it was worth, or how it was felt."""

    def member(self, data: bytes, name: i64, name_end: i64, value: i64, end: i64) -> bool:
        """Look at a property; return False for one that has to be looked at by the other way."""
        self.some = True
        telling = _TELLING.number(data, name, name_end)
        if telling == 0:
            return is_plain(data, name, name_end)
        if telling == _NAME:
            self.title = data[value:end]
        elif telling == _WORTH:
            self.worth = True
        return telling != _CONTENT


class PlainCallFields(MemberHandler):
    """A call's parts; empty, or NEVER, where it says nothing. Texts are without their quotes, as they are written in JSON."""

    def __init__(self) -> None:
        self.kind = b""
        self.message_id = b""
        self.user_id = b""
        self.anonymous_id = b""
        self.timestamp: i64 = NEVER
        self.original: i64 = NEVER
        self.sent_at: i64 = NEVER
        self.event = b""
        self.name = b""
        self.properties = b""
        self.title = b""
        self.worth = False
        self.context = _NULL

    def member(self, data: bytes, name: i64, name_end: i64, value: i64, end: i64) -> bool:
        """Take a part of the call; return False for one that has to be looked at by the other way."""
        field = _FIELDS.number(data, name, name_end)
        if field == 0:
            return is_plain(data, name, name_end)
        null = data[value] == _N
        if field == _LOOKED_AT:
            return null
        if field == _CONTEXT:
            self.context = data[value:end]
            return True
        if field == _PROPERTIES:
            return self._take_properties(data, value, end)
        if null:
            return self._take_text(field, b"")
        if data[value] != _QUOTE or (field <= _IDS and not is_plain(data, value, end)):
            return False
        return self._take_text(field, data[value + 1 : end - 1])

    def _take_text(self, field: i64, text: bytes) -> bool:
        if field == 1:
            self.kind = text
        elif field == 2:
            self.message_id = text
        elif field == 3:
            self.user_id = text
        elif field == 4:
            self.anonymous_id = text
        elif field == 5:
            self.event = text
        elif field == 6:
            self.name = text
        else:
            return self._take_time(field, text)
        return field > _IDS or len(text) <= _MAX_ID

    def _take_time(self, field: i64, text: bytes) -> bool:
        found = scan_instant(text) if text else NEVER
        if field == 7:
            self.timestamp = found
        elif field == 8:
            self.original = found
        else:
            self.sent_at = found
        return found != NEVER or not text

    def _take_properties(self, data: bytes, at: i64, end: i64) -> bool:
        seen = _Properties()
        null = data[at] == _N
        if not null and object_end(data, at, LEVELS, seen) < 0:
            return False
        self.properties = data[at:end] if seen.some else b""
        self.worth, title = seen.worth, seen.title
        size: i64 = len(title)
        if size == 0:
            self.title = b""
            return True
        if title[0] != _QUOTE:
            return False
        self.title = title[1 : size - 1]
        return True


def parse_plain_call(raw: bytes) -> PlainCallFields | None:
    """Return the parts of a call, or None for one that has to be read by the other way."""
    if len(raw) > MAX_BYTES:
        return None
    data, call = raw + b"\0", PlainCallFields()
    begin = after_space(data, 0)
    end = object_end(data, begin, LEVELS, call)
    if end < 0 or after_space(data, end) != len(raw):
        return None
    return call


def event_name(call: PlainCallFields, kind: bytes) -> bytes | None:
    """Return the event or the page that a call names; None where it has to name one and does not."""
    if kind == b"track":
        return call.event or None
    return call.name or call.title
