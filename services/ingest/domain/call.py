"""One call as it came: its parts by name. What they may be is looked at where they are used.

What the strict decoder takes is read once, and only the parts that somebody asks for. What it refuses, or what may hold something
that no store takes, is read by Python's decoder, cleaned, and written again: then it is as good as the other.
"""

from typing import Any

import msgspec

from libs.common.errors import InvalidMessage
from services.ingest.domain import body
from services.ingest.domain.privacy import without_tokens

NOTHING = msgspec.Raw(b"null")
_STRICT = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Call(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """A tracking call (Segment's specification). The context stays as it is written: many calls say the same."""

    type: Any = None
    message_id: Any = None
    user_id: Any = None
    anonymous_id: Any = None
    previous_id: Any = None
    group_id: Any = None
    user_hash: Any = None
    timestamp: Any = None
    original_timestamp: Any = None
    sent_at: Any = None
    event: Any = None
    name: Any = None
    traits: Any = None
    properties: Any = None
    context: msgspec.Raw = NOTHING


_call = msgspec.json.Decoder(Call)


def read_call(raw: bytes, *, plain: bool = False) -> Call:
    """Read one call, `plain` if it is known to be so.

    Raises InvalidMessage when it is too large, too deep, no object, or holds what nothing can store.
    """
    if body.is_flat(raw) and (plain or body.is_plain(raw)):
        try:
            return _call.decode(without_tokens(raw))
        except _STRICT:
            pass
    return call_of(body.read(raw))


def call_of(message: Any) -> Call:
    """Return the call of a message that is read and clean. Raises InvalidMessage when it is no object."""
    if not isinstance(message, dict):
        raise InvalidMessage("not_an_object", f"a message is a JSON object, not {type(message).__name__}")
    try:
        return _call.decode(without_tokens(body.written(message)))
    except _STRICT as error:
        raise InvalidMessage("bad_json", f"the message holds what no JSON has: {error}") from None
