"""Batches built by aiokafka: the reference of the wire encoding, used without a C compiler."""

from typing import Any

from aiokafka.producer.message_accumulator import BatchBuilder

from libs.common.kafka.wire.encoded_record import AnyMessage

_UNCOMPRESSED = 0


class LibraryBatch(BatchBuilder):  # type: ignore[misc]
    """aiokafka's batch builder, uncompressed: its LZ4 has one level, which takes 5 µs a record."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes, _UNCOMPRESSED)

    def add_message(self, message: AnyMessage) -> int:
        """Add a message and return its size in bytes; 0 when the batch is full."""
        metadata: Any = self.append(
            timestamp=None, key=message.key, value=message.value, headers=message.headers
        )
        return 0 if metadata is None else int(metadata.size)
