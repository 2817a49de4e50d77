"""Polled records, and the protocol of a service's batch handler."""

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec


class Record(msgspec.Struct, frozen=True, gc=False):
    """Polled record; `timestamp` is the broker's append time, microseconds UTC."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    timestamp: int


def offset_ranges(records: Sequence[Record]) -> dict[tuple[str, int], tuple[int, int]]:
    """Return (first offset, offset after the last) by (topic, partition) of ordered records."""
    ranges: dict[tuple[str, int], tuple[int, int]] = {}
    for record in records:
        partition = (record.topic, record.partition)
        first, _ = ranges.get(partition, (record.offset, 0))
        ranges[partition] = (first, record.offset + 1)
    return ranges


class BatchHandler(Protocol):
    """Processor of a service's batches.

    A batch has records of one or more partitions, in order and without a gap in each.
    """

    async def next_offset(self, topic: str, partition: int, beginning: int) -> int:
        """Return the offset of record; a missing row is inserted with `beginning`."""
        ...

    async def handle(self, records: Sequence[Record]) -> int:
        """Process the batch in one fenced transaction; return the number of dead letters.

        Raises FenceLost when another owner has the partition, Unavailable when a dependency failed
        and the batch may be retried, and any other exception for an error caused by the data.
        """
        ...

    async def store_dead_letter(self, record: Record, error: Exception) -> None:
        """Store one bad record as a dead letter, through the same fence."""
        ...


def record_from_aiokafka(raw: Any) -> Record:
    """Convert a record of aiokafka."""
    return Record(
        raw.topic,
        raw.partition,
        raw.offset,
        raw.key or b"",
        raw.value,
        raw.headers or (),
        raw.timestamp * 1_000,
    )
