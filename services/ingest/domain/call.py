"""One call: its parts by name. What they may be is looked at where they are used.

Of a plain message only the parts are decoded that somebody asks for. Any other is decoded whole, what is asked for is cleaned and
written again: then it is as good as a plain one.
"""

from typing import Any

import msgspec

from libs.common.errors import InvalidMessage
from services.ingest.domain import body
from services.ingest.domain.fields import mapping
from services.ingest.domain.privacy import without_tokens

NOTHING = msgspec.Raw(b"null")


class Call(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """A tracking call (Segment's specification). Its objects stay as they are written: many calls have the same context."""

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
    traits: msgspec.Raw = NOTHING
    properties: msgspec.Raw = NOTHING
    context: msgspec.Raw = NOTHING


class PlainCall(Call, frozen=True, gc=False, rename="camel"):
    """A call whose parts are plain values, but for the objects: nothing of it has to be cleaned.

    What is otherwise is a `Call`, whose parts may be anything, so that a wrong one is refused by its name.
    """

    type: body.Plain = None
    message_id: body.Plain = None
    user_id: body.Plain = None
    anonymous_id: body.Plain = None
    previous_id: body.Plain = None
    group_id: body.Plain = None
    user_hash: body.Plain = None
    timestamp: body.Plain = None
    original_timestamp: body.Plain = None
    sent_at: body.Plain = None
    event: body.Plain = None
    name: body.Plain = None


_decode_plain = msgspec.json.Decoder(PlainCall).decode
_decode = msgspec.json.Decoder(Call).decode


def read_call(raw: bytes) -> Call:
    """Read one call. Raises InvalidMessage when it is too large, no object, or a part is too deep or nothing can store it."""
    body.check_event(raw)
    try:
        return _decode_plain(without_tokens(raw))
    except body.REFUSED:
        message = body.document(raw)
    if isinstance(message, dict):  # what nobody asks for may be anything
        message = {name: body.cleaned(message[name]) for name in Call.__struct_encode_fields__ if name in message}
    return call_of(message)


def call_of(message: Any) -> Call:
    """Return the call of a message that is read and clean. Raises InvalidMessage when it is no object."""
    if not isinstance(message, dict):
        raise InvalidMessage("not_an_object", f"a message is a JSON object, not {type(message).__name__}")
    try:
        return _decode(without_tokens(body.written(message)))
    except body.REFUSED as error:
        raise InvalidMessage("bad_json", f"the message holds what no JSON has: {error}") from None


def object_of(field: str, raw: bytes | msgspec.Raw) -> dict[str, Any]:
    """Return an object of a call, clean; one that is not given is empty. Raises InvalidMessage, also for what is none."""
    return {} if raw is NOTHING else mapping(field, body.read(bytes(raw)))
