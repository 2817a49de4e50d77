"""CloudEvents 1.0 over Kafka in binary mode: `ce_*` headers, and the data as JSON in the value.

Source: CloudEvents Kafka protocol binding 1.0, section 3.2. `ce_reason` is an extension attribute:
it lets a subscriber skip a message without decoding it.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import ClassVar, Protocol, TypeVar

import msgspec

from libs.common.errors import InvalidMessage

Headers = list[tuple[str, bytes]]

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001
TRACEPARENT = "traceparent"
_VERSION = ("ce_specversion", b"1.0")
_JSON = ("content-type", b"application/json")
_encoder = msgspec.json.Encoder()


class Message(msgspec.Struct, frozen=True, gc=False):
    """Encoded message for a topic; a `value` of None is a tombstone."""

    topic: str
    key: bytes
    value: bytes | None
    headers: Headers


class MessageModel(Protocol):
    """A struct with the type and the topic of its messages."""

    KIND: ClassVar[str]
    TOPIC: ClassVar[str]


M = TypeVar("M", bound=msgspec.Struct)
_decoders: dict[type, msgspec.json.Decoder[msgspec.Struct]] = {}


def build_message(
    model: MessageModel,
    *,
    key: str,
    message_id: str,
    source: str,
    time: int,
    reason: str = "",
    trace: bytes | None = None,
) -> Message:
    """Encode a model for its topic; `time` (µs UTC) becomes `ce_time`, `trace` the traceparent."""
    headers = [
        *source_headers(model.KIND, source),
        *event_headers(message_id, time, reason, trace),
    ]
    return Message(model.TOPIC, key.encode(), _encoder.encode(model), headers)


def event_headers(
    message_id: str, time: int, reason: str = "", trace: bytes | None = None
) -> Headers:
    """Return the headers of one message, which follow `source_headers`."""
    seconds, fraction = divmod(time, 1_000_000)
    headers: Headers = [
        ("ce_id", message_id.encode()),
        ("ce_time", b"%b.%06dZ" % (format_second(seconds), fraction)),
    ]
    if reason:
        headers.append(("ce_reason", reason.encode()))
    if trace is not None:
        headers.append((TRACEPARENT, trace))
    return headers


@lru_cache(maxsize=1_024)
def source_headers(kind: str, source: str) -> tuple[tuple[str, bytes], ...]:
    """Return the headers that all messages of a kind and source share."""
    return _VERSION, ("ce_type", kind.encode()), ("ce_source", source.encode()), _JSON


@lru_cache(maxsize=4_096)
def format_second(seconds: int) -> bytes:
    """Return a second as ISO 8601; cached, since many messages share one."""
    return (_EPOCH + timedelta(seconds=seconds)).isoformat().encode()


def decode_value(model: type[M], value: bytes | None) -> M:
    """Decode a value as `model`. Raises InvalidMessage that names the faulty field."""
    if value is None:
        raise InvalidMessage("empty", f"a {model.__name__} has a value; this record has none")
    decoder = _decoders.get(model)
    if decoder is None:
        decoder = _decoders[model] = msgspec.json.Decoder(model)
    try:
        return decoder.decode(value)  # type: ignore[return-value]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidMessage("undecodable", f"not a {model.__name__}: {error}") from None


def event_type_of(headers: Sequence[tuple[str, bytes | None]]) -> str:
    """Return the event type in the headers, or the empty string."""
    for name, value in headers:
        if name == "ce_type" and value is not None:
            return value.decode("utf-8", "replace")
    return ""


def traceparent_of(headers: Sequence[tuple[str, bytes | None]]) -> bytes | None:
    """Return the W3C traceparent in the headers, or None."""
    for name, value in headers:
        if name == TRACEPARENT:
            return value
    return None
