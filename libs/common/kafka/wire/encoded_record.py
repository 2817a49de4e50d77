"""Messages encoded as records of a Kafka batch: encoded once, then copied.

Source: Kafka's message format, version 2, "Record":
https://kafka.apache.org/documentation/#record. The fields before the key (length, attributes, two
deltas) are written by the batch. Written for mypyc; uncompiled it gives the same result.
"""

from typing import Final

from librt.strings import BytesWriter
from mypy_extensions import i64, u8

from libs.common.messages.envelope import Headers, Message

_NONE: Final = -1
"""Length of a null field."""


class EncodedRecord:
    """Message as an encoded record, with the attributes of `Message`; each read decodes it."""

    def __init__(self, topic: str, key: bytes, record: bytes) -> None:
        """`record`: the encoded key, value and headers."""
        self.topic = topic
        self.key = key
        self.record = record

    @property
    def value(self) -> bytes | None:
        """The value, or None for a tombstone."""
        fields = _FieldReader(self.record)
        fields.take()
        return fields.take()

    @property
    def headers(self) -> Headers:
        """The headers, in order."""
        fields = _FieldReader(self.record)
        fields.take()
        fields.take()
        return [
            ((fields.take() or b"").decode(), fields.take() or b"") for _ in range(fields.number())
        ]


AnyMessage = Message | EncodedRecord


class _FieldReader:
    """Sequential reader of a record's fields."""

    def __init__(self, record: bytes) -> None:
        self._record = record
        self._at: i64 = 0

    def number(self) -> i64:
        """Return the next varint."""
        zigzag: i64 = 0
        shift: i64 = 0
        while True:
            byte: i64 = self._record[self._at]
            self._at += 1
            zigzag |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return -((zigzag + 1) >> 1) if zigzag & 1 else zigzag >> 1

    def take(self) -> bytes | None:
        """Return the next length-prefixed bytes, or None for a null field."""
        length = self.number()
        if length < 0:
            return None
        start = self._at
        self._at += length
        return self._record[start : self._at]


class EncodedHeaders:
    """Headers that many records begin with, encoded once."""

    def __init__(self, headers: Headers) -> None:
        writer = BytesWriter()
        _encode_headers(writer, headers)
        self.count: i64 = len(headers)
        self.encoded = writer.getvalue()


def encode_record(message: Message) -> EncodedRecord:
    """Encode a message."""
    return encode_fields(message.topic, message.key, message.value, _NO_HEADERS, message.headers)


def encode_fields(
    topic: str, key: bytes, value: bytes | None, shared: EncodedHeaders, headers: Headers
) -> EncodedRecord:
    """Encode a record of the `shared` headers and its own."""
    writer = BytesWriter()
    encode_bytes(writer, key)
    if value is None:
        encode_varint(writer, _NONE)
    else:
        encode_bytes(writer, value)
    encode_varint(writer, shared.count + len(headers))
    writer.write(shared.encoded)
    _encode_headers(writer, headers)
    return EncodedRecord(topic, key, writer.getvalue())


def encode_bytes(writer: BytesWriter, field: bytes) -> None:
    """Write a field with its length before it."""
    encode_varint(writer, len(field))
    writer.write(field)


def encode_varint(writer: BytesWriter, number: i64) -> None:
    """Write a zigzag varint: seven bits a byte, lowest first; negative numbers become odd."""
    rest: i64 = -2 * number - 1 if number < 0 else 2 * number
    while rest >= 128:
        writer.append(u8(rest & 127 | 128))
        rest >>= 7
    writer.append(u8(rest))


def varint_size(number: i64) -> i64:
    """Return the encoded size in bytes of a number that is not negative."""
    size: i64 = 1
    rest = number >> 6
    while rest > 0:
        rest >>= 7
        size += 1
    return size


def _encode_headers(writer: BytesWriter, headers: Headers) -> None:
    for name, value in headers:
        encode_bytes(writer, name.encode())
        encode_bytes(writer, value)


_NO_HEADERS: Final = EncodedHeaders([])
