"""One call: its parts by name. What they may be is looked at where they are used.

Of a plain message only the parts are decoded that somebody asks for. Any other is decoded whole, what is asked for is cleaned and
written again: then it is as good as a plain one.
"""

from typing import Any

import msgspec

from libs.common.errors import InvalidMessage
from services.ingest.domain import json_body
from services.ingest.domain.field_values import parse_mapping
from services.ingest.domain.privacy import strip_link_tokens

NULL = msgspec.Raw(b"null")


class TrackingCall(msgspec.Struct, frozen=True, gc=False, rename="camel"):
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
    traits: msgspec.Raw = NULL
    properties: msgspec.Raw = NULL
    context: msgspec.Raw = NULL


class PlainTrackingCall(TrackingCall, frozen=True, gc=False, rename="camel"):
    """A call whose parts are plain values, but for the objects: nothing of it has to be cleaned.

    What is otherwise is a `Call`, whose parts may be anything, so that a wrong one is refused by its name.
    """

    type: json_body.PlainValue = None
    message_id: json_body.PlainValue = None
    user_id: json_body.PlainValue = None
    anonymous_id: json_body.PlainValue = None
    previous_id: json_body.PlainValue = None
    group_id: json_body.PlainValue = None
    user_hash: json_body.PlainValue = None
    timestamp: json_body.PlainValue = None
    original_timestamp: json_body.PlainValue = None
    sent_at: json_body.PlainValue = None
    event: json_body.PlainValue = None
    name: json_body.PlainValue = None


_decode_plain = msgspec.json.Decoder(PlainTrackingCall).decode
_decode = msgspec.json.Decoder(TrackingCall).decode


def parse_call(raw: bytes) -> TrackingCall:
    """Read one call. Raises InvalidMessage when it is too large, no object, or a part is too deep or nothing can store it."""
    json_body.check_message_size(raw)
    try:
        return _decode_plain(strip_link_tokens(raw))
    except json_body.DECODE_ERRORS:
        message = json_body.decode_document(raw)
    if isinstance(message, dict):  # what nobody asks for may be anything
        message = {
            name: json_body.clean_value(message[name])
            for name in TrackingCall.__struct_encode_fields__
            if name in message
        }
    return call_from_object(message)


def call_from_object(message: Any) -> TrackingCall:
    """Return the call of a message that is read and clean. Raises InvalidMessage when it is no object."""
    if not isinstance(message, dict):
        raise InvalidMessage(
            "not_an_object", f"a message is a JSON object, not {type(message).__name__}"
        )
    try:
        return _decode(strip_link_tokens(json_body.encode_json(message)))
    except json_body.DECODE_ERRORS as error:
        raise InvalidMessage("bad_json", f"the message holds what no JSON has: {error}") from None


def parse_object(field: str, raw: bytes | msgspec.Raw) -> dict[str, Any]:
    """Return an object of a call, clean; one that is not given is empty. Raises InvalidMessage, also for what is none."""
    return {} if raw is NULL else parse_mapping(field, json_body.decode_clean(bytes(raw)))
