"""Messages as Kafka's batches hold them: written once, and copied from there on.

Source: Kafka's message format, version 2, "Record": https://kafka.apache.org/documentation/#record. What stands before the
key (length, attributes, two differences) is the batch's. Written for mypyc; uncompiled it says the same.
"""

from typing import Final

from librt.strings import BytesWriter
from mypy_extensions import i64, u8

from libs.common.messages.envelope import Headers, Message

_NONE: Final = -1
"""The length of what is not there."""


class EncodedRecord:
    """A message of a topic, as a record; read like any other message, which takes a moment."""

    def __init__(self, topic: str, key: bytes, record: bytes) -> None:
        """`record` is its key, its value and its headers, as in a batch."""
        self.topic = topic
        self.key = key
        self.record = record

    @property
    def value(self) -> bytes | None:
        """The value, or None for a tombstone."""
        fields = _Fields(self.record)
        fields.take()
        return fields.take()

    @property
    def headers(self) -> Headers:
        """The headers, in order."""
        fields = _Fields(self.record)
        fields.take()
        fields.take()
        return [
            ((fields.take() or b"").decode(), fields.take() or b"") for _ in range(fields.number())
        ]


AnyMessage = Message | EncodedRecord


class _Fields:
    """What stands in a record, one after the other."""

    def __init__(self, record: bytes) -> None:
        self._record = record
        self._at: i64 = 0

    def number(self) -> i64:
        """Return the number that comes next."""
        found: i64 = 0
        shift: i64 = 0
        while True:
            byte: i64 = self._record[self._at]
            self._at += 1
            found |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return -((found + 1) >> 1) if found & 1 else found >> 1

    def take(self) -> bytes | None:
        """Return the bytes that come next, or None where there are none."""
        length = self.number()
        if length < 0:
            return None
        begin = self._at
        self._at += length
        return self._record[begin : self._at]


def encode_record(message: Message) -> EncodedRecord:
    """Return a message, written."""
    writer = BytesWriter()
    encode_bytes(writer, message.key)
    if message.value is None:
        encode_varint(writer, _NONE)
    else:
        encode_bytes(writer, message.value)
    encode_varint(writer, len(message.headers))
    writer.write(encode_headers(message.headers))
    return EncodedRecord(message.topic, message.key, writer.getvalue())


def encode_headers(headers: Headers) -> bytes:
    """Return headers as a record has them, without their number."""
    writer = BytesWriter()
    for name, value in headers:
        encode_bytes(writer, name.encode())
        encode_bytes(writer, value)
    return writer.getvalue()


def encode_bytes(writer: BytesWriter, field: bytes) -> None:
    """Write how long a field is, and the field."""
    encode_varint(writer, len(field))
    writer.write(field)


def encode_varint(writer: BytesWriter, number: i64) -> None:
    """Write a number: seven bits a byte, the lowest first, negative ones as the odd."""
    rest: i64 = -2 * number - 1 if number < 0 else 2 * number
    while rest >= 128:
        writer.append(u8(rest & 127 | 128))
        rest >>= 7
    writer.append(u8(rest))


def varint_size(number: i64) -> i64:
    """Return how many bytes a number takes that is not negative."""
    size: i64 = 1
    rest = number >> 6
    while rest > 0:
        rest >>= 7
        size += 1
    return size
