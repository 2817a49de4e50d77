"""Touchpoints of one source as records: with the key and the headers that `compose` would give their messages.

Written for mypyc.
"""

from typing import Final

from librt.strings import BytesWriter
from mypy_extensions import i64, u8

from libs.common.kafka.wire.encoded_record import (
    EncodedRecord,
    encode_bytes,
    encode_headers,
    encode_varint,
)
from libs.common.messages import Touchpoint
from libs.common.messages.envelope import TRACEPARENT, Headers, format_second, source_headers
from services.ingest.fastpath.instant_scanner import NEVER

_SECOND: Final = 1_000_000
_FRACTION: Final = 8
"""Bytes of a point, six digits and a Z."""
_OWN: Final = 2
"""Headers that differ from call to call: the message's id, its time."""
_ZERO: Final = 48
_POINT: Final = 46
_Z: Final = 90


def _name_of(header: str) -> bytes:
    """Return a header's name, as a record has it."""
    writer = BytesWriter()
    encode_bytes(writer, header.encode())
    return writer.getvalue()


_ID: Final = _name_of("ce_id")
_TIME: Final = _name_of("ce_time")


class RecordWriter:
    """Writes the records of one source."""

    def __init__(self, workspace: str, source: str) -> None:
        shared: Headers = list(source_headers(Touchpoint.KIND, f"/ingest/{source}"))
        self._shared = encode_headers(shared) + _ID
        self._count: i64 = len(shared) + _OWN
        self._key = f"{workspace}:".encode()
        self._id = f"{source}:".encode()
        self._second: i64 = NEVER
        self._second_text = b""
        self._writer = BytesWriter()

    def write_record(
        self, who: bytes, value: bytes, message_id: bytes, occurred_at: i64, trace: bytes
    ) -> EncodedRecord:
        """Return the message of a touchpoint. `trace` is its traceparent's header (`trace_header`)."""
        writer, key = self._writer, self._key + who
        writer.truncate(0)
        encode_bytes(writer, key)
        encode_bytes(writer, value)
        encode_varint(writer, self._count + 1 if trace else self._count)
        writer.write(self._shared)
        encode_varint(writer, len(self._id) + len(message_id))
        writer.write(self._id)
        writer.write(message_id)
        writer.write(_TIME)
        self._write_time(writer, occurred_at)
        writer.write(trace)
        return EncodedRecord(Touchpoint.TOPIC, key, writer.getvalue())

    def _write_time(self, writer: BytesWriter, instant: i64) -> None:
        second = instant // _SECOND
        if second != self._second:
            self._second, self._second_text = second, format_second(second)
        encode_varint(writer, len(self._second_text) + _FRACTION)
        writer.write(self._second_text)
        writer.append(_POINT)
        rest = instant % _SECOND
        unit: i64 = _SECOND // 10
        while unit > 0:
            writer.append(u8(_ZERO + rest // unit % 10))
            unit //= 10
        writer.append(_Z)


def trace_header(trace: bytes | None) -> bytes:
    """Return a traceparent as a record has it; empty for none."""
    if trace is None:
        return b""
    headers: Headers = [(TRACEPARENT, trace)]
    return encode_headers(headers)
