"""A record as polled, and what a service does with a batch of them."""

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record as polled. `timestamp` is the broker's append time, microseconds UTC."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    timestamp: int


def offset_ranges(records: Sequence[Record]) -> dict[tuple[str, int], tuple[int, int]]:
    """Return, by (topic, partition), the first offset of a batch and the one after its last; in order within each."""
    found: dict[tuple[str, int], tuple[int, int]] = {}
    for record in records:
        place = (record.topic, record.partition)
        first, _ = found.get(place, (record.offset, 0))
        found[place] = (first, record.offset + 1)
    return found


class BatchHandler(Protocol):
    """What a service does with a batch of one or more partitions; the records of each are in order, without a gap."""

    async def next_offset(self, topic: str, partition: int, beginning: int) -> int:
        """Return the offset of record, making the row at `beginning` when there is none."""
        ...

    async def handle(self, records: Sequence[Record]) -> int:
        """Process the batch in one fenced transaction and return how many records were dead letters.

        Raises FenceLost when another owner has the partition, Unavailable when a dependency failed and the batch may
        be tried again, and anything else when the data is to blame.
        """
        ...

    async def store_dead_letter(self, record: Record, error: Exception) -> None:
        """Store one bad record as a dead letter, through the same fence."""
        ...


def record_from_aiokafka(raw: Any) -> Record:
    """Return a record of aiokafka's as ours."""
    return Record(
        raw.topic,
        raw.partition,
        raw.offset,
        raw.key or b"",
        raw.value,
        raw.headers or (),
        raw.timestamp * 1_000,
    )
