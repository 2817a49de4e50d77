"""Records of one partition, as a batch of Kafka's: what aiokafka's builder does, for records that are written already.

Source: Kafka's message format, version 2, "Record Batch": https://kafka.apache.org/documentation/#recordbatch. All records have
the time at which their batch went out. Written for mypyc; uncompiled it says the same.
"""

import struct
import time
from typing import Final

from aiokafka.codec import lz4_encode
from aiokafka.record.util import calc_crc32c
from librt.strings import BytesWriter
from mypy_extensions import i64

from libs.common.kafka.wire.encoded_record import encode_varint, varint_size

_HEAD: Final = struct.Struct(">hiqqqhii")
"""From the attributes to the number of records: what the checksum covers, with the records."""
_START: Final = struct.Struct(">qiibI")
_UNCOUNTED: Final = 12
"""Bytes that a batch's length does not count: those before it, and its own."""
_VERSION: Final = 2
_NO_EPOCH: Final = -1
_LZ4: Final = 3
_FASTEST: Final = 1
"""The level of LZ4: the default makes a batch a sixth smaller in ten times the time."""
MIN_COMPRESSED_BYTES: Final = 4 * 1024
"""Bytes of records that are compressed: fewer cost more than they save."""


class RecordBatch:
    """A batch of at most so many bytes, or of one record; what aiokafka's producer asks a builder for is here by its names."""

    def __init__(self, most: int, *, compressed: bool) -> None:
        """Compress a large batch by LZ4 if `compressed`."""
        self._most: i64 = most
        self._compressed = compressed
        self._records = BytesWriter()
        self._count: i64 = 0
        self._closed = False
        self._producer = (-1, -1, -1)
        self._built: bytes | None = None

    def add(self, record: bytes) -> i64:
        """Add a record (Written.record) and return its bytes; 0 when the batch is full or closed."""
        length = 2 + varint_size(self._count) + len(record)
        size = varint_size(length) + length
        if self._closed or (self._count > 0 and len(self._records) + size > self._most):
            self._closed = True
            return 0
        records = self._records
        encode_varint(records, length)
        records.append(0)  # attributes
        records.append(0)  # milliseconds behind the batch's time
        encode_varint(records, self._count)
        records.write(record)
        self._count += 1
        return size

    def record_count(self) -> int:
        """Return the number of records."""
        return self._count

    def close(self) -> None:
        """Take no more."""
        self._closed = True

    def closed(self) -> bool:
        """Return whether it takes no more."""
        return self._closed

    def _set_producer_state(
        self, producer_id: int, producer_epoch: int, base_sequence: int
    ) -> None:
        self._producer = producer_id, producer_epoch, base_sequence

    def _build(self) -> bytes:
        """Return the batch; built once, so that what is sent again is the same."""
        if self._built is None:
            self._closed = True
            records = self._records.getvalue()
            self._records = BytesWriter()
            attributes = 0
            if self._compressed and len(records) >= MIN_COMPRESSED_BYTES:
                attributes, records = _LZ4, lz4_encode(records, _FASTEST)
            now = time.time_ns() // 1_000_000
            covered = (
                _HEAD.pack(attributes, self._count - 1, now, now, *self._producer, self._count)
                + records
            )
            length = _START.size - _UNCOUNTED + len(covered)
            start = _START.pack(0, length, _NO_EPOCH, _VERSION, calc_crc32c(covered))
            self._built = start + covered
        return self._built
