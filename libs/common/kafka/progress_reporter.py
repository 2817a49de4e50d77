"""Progress of a consumer: committed offsets, lag, the partitions' frontiers, hints to Kafka."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from aiokafka.errors import KafkaError

from libs.common.errors import Unavailable
from libs.common.kafka.record import Record
from libs.common.observability import logs, metrics

REPORT_SECONDS = 1.0
"""Time between two progress reports; an idle poll lasts until the next report."""
log = logs.get_logger(__name__)

Frontiers = Mapping[tuple[str, int], int]
"""By (topic, partition), the instant (µs UTC) up to which it is read and committed."""


class ProgressReporter:
    """Tracks the owned partitions of an aiokafka consumer and reports once a second."""

    def __init__(
        self, consumer: Any, on_progress: Callable[[Frontiers], Awaitable[None]] | None
    ) -> None:
        self._consumer = consumer
        self._on_progress = on_progress
        self._reported_at = 0.0
        self.committed: dict[tuple[str, int], int] = {}
        """By (topic, partition), the offset of record."""
        self._last_append: dict[tuple[str, int], int] = {}
        self._hinted: dict[Any, int] = {}

    def seconds_until_report(self) -> float:
        """Return the seconds until the next report is due, 0 if it is."""
        return max(0.0, self._reported_at + REPORT_SECONDS - time.monotonic())

    def add_batch(
        self, ranges: Mapping[tuple[str, int], tuple[int, int]], records: Sequence[Record]
    ) -> None:
        """Add a committed batch: its offset ranges and its records."""
        self.committed.update((partition, end) for partition, (_, end) in ranges.items())
        self._last_append.update(((r.topic, r.partition), r.timestamp) for r in records)

    def set_committed(self, tp: Any, offset: int) -> None:
        """Set a partition's offset of record after a seek."""
        self.committed[tp.topic, tp.partition] = offset

    def clear(self) -> None:
        """Forget all partitions: they have been revoked."""
        self.committed.clear()
        self._last_append.clear()
        self._hinted.clear()

    def owned_partitions(self) -> list[Any]:
        """Return the assigned partitions whose offset of record is known."""
        return [
            tp for tp in self._consumer.assignment() if (tp.topic, tp.partition) in self.committed
        ]

    async def report(self) -> None:
        """Set lag gauges, commit hints to Kafka, and pass the frontiers on."""
        self._reported_at = time.monotonic()
        owned = self.owned_partitions()
        for tp in owned:
            lag = (self._consumer.highwater(tp) or 0) - self.committed[tp.topic, tp.partition]
            metrics.CONSUMER_LAG.labels(topic=tp.topic, partition=tp.partition).set(max(0, lag))
        await self._commit_hint({tp: self.committed[tp.topic, tp.partition] for tp in owned})
        if self._on_progress is not None:
            frontiers = {(tp.topic, tp.partition): self._frontier_of(tp) for tp in owned}
            try:
                await self._on_progress(
                    {tp: instant for tp, instant in frontiers.items() if instant is not None}
                )
            except Unavailable as error:
                log.warning("progress_not_written", error=str(error))

    def _frontier_of(self, tp: Any) -> int | None:
        """Return the instant up to which this partition is read and committed, or None.

        The poll time counts only if the last fetch response had a high watermark equal to the
        committed offset; an empty poll alone proves nothing.
        """
        polled_ms = self._consumer.last_poll_timestamp(tp)
        if (
            polled_ms is not None
            and self._consumer.highwater(tp) == self.committed[tp.topic, tp.partition]
        ):
            return int(polled_ms) * 1_000
        return self._last_append.get((tp.topic, tp.partition))

    async def _commit_hint(self, offsets: dict[Any, int]) -> None:
        """Commit to Kafka the offsets that have moved since the last hint."""
        moved = {tp: offset for tp, offset in offsets.items() if self._hinted.get(tp) != offset}
        if moved:
            with contextlib.suppress(KafkaError, ValueError, TimeoutError):
                await asyncio.wait_for(self._consumer.commit(moved), 2)
                self._hinted |= moved
