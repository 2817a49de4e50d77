"""Tracking calls, decoded by the names of their fields; the fields' users check the values.

Of a plain message only these fields are decoded. Any other message is decoded as a whole, its
fields are cleaned and encoded again, and the result is decoded like a plain message.
"""

from typing import Any

import msgspec

from libs.common.errors import InvalidMessage
from services.ingest.domain import json_body
from services.ingest.domain.field_values import parse_mapping
from services.ingest.domain.privacy import strip_link_tokens

NULL = msgspec.Raw(b"null")


class TrackingCall(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """A tracking call (Segment's specification). Its objects stay encoded."""

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
    """A call that needs no cleaning: its fields, except the objects, are plain values.

    In any other TrackingCall a field may have any value, so that a wrong one is refused by its
    name.
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
    """Parse one call.

    Raises InvalidMessage for a call that is too large, too deep or no object, or cannot be stored.
    """
    json_body.check_message_size(raw)
    try:
        return _decode_plain(strip_link_tokens(raw))
    except json_body.DECODE_ERRORS:
        message = json_body.decode_document(raw)
    if isinstance(message, dict):  # other fields may have any value
        message = {
            name: json_body.clean_value(message[name])
            for name in TrackingCall.__struct_encode_fields__
            if name in message
        }
    return call_from_object(message)


def call_from_object(message: Any) -> TrackingCall:
    """Return the call of a decoded, clean message. Raises InvalidMessage when it is no object."""
    if not isinstance(message, dict):
        raise InvalidMessage(
            "not_an_object", f"a message is a JSON object, not {type(message).__name__}"
        )
    try:
        return _decode(strip_link_tokens(json_body.encode_json(message)))
    except json_body.DECODE_ERRORS as error:
        raise InvalidMessage(
            "bad_json", f"the message has values that JSON lacks: {error}"
        ) from None


def parse_object(field: str, raw: bytes | msgspec.Raw) -> dict[str, Any]:
    """Return an object of a call, clean; an absent one is empty. Raises InvalidMessage."""
    return {} if raw is NULL else parse_mapping(field, json_body.decode_clean(bytes(raw)))
