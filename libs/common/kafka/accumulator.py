"""Record accumulator: a queue of batches for each partition, with one batch in flight.

Records that arrive while a batch is in flight form the next batch, so a busy process sends few
large batches, and an idle one sends at once. A completed batch wakes its waiters directly, where
aiokafka's `send` makes a future and two waits for each record. A single batch in flight per
partition keeps the order.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from itertools import chain
from typing import Any

from libs.common.errors import InvalidMessage, Unavailable
from libs.common.kafka.library_batch import LibraryBatch
from libs.common.kafka.wire.encoded_record import AnyMessage, EncodedRecord, encode_record
from libs.common.kafka.wire.record_batch import RecordBatch
from libs.common.partitioner import partition_for_key
from libs.common.topics import COMPRESSED

MAX_BYTES = 64 * 1024 * 1024
"""Limit for all queued records; beyond it, new records get Unavailable at once."""
MAX_BATCH_BYTES = 256 * 1024
MAX_RECORD_BYTES = 1_000_000
"""Below the topics' `max.message.bytes` (1,048,576), so the client refuses before the broker."""


class PendingBatch:
    """Batch of records of one partition, completed once for all of them.

    One timer completes it with Unavailable at its deadline; Kafka may still store the records.
    """

    __slots__ = ("_loop", "_timer", "_waiters", "batch", "bytes", "completed", "error")

    def __init__(
        self,
        batch: RecordBatch | LibraryBatch,
        deadline: float,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.batch = batch
        self.bytes = 0
        self.completed = False
        self.error: BaseException | None = None
        self._loop = loop
        self._waiters: list[asyncio.Future[None]] = []
        self._timer = loop.call_at(deadline, self._expire)

    def acknowledgement(self) -> asyncio.Future[None]:
        """Return a future that is done when the batch completes; call it before that.

        Each waiter has its own future, since a waiter may be cancelled.
        """
        future = self._loop.create_future()
        self._waiters.append(future)
        return future

    def append(self, message: AnyMessage) -> int:
        """Add a message and return its size in bytes; 0 when the batch is full.

        A RecordBatch takes encoded records only.
        """
        batch = self.batch
        if isinstance(batch, RecordBatch):
            assert isinstance(message, EncodedRecord)
            size: int = batch.add(message.record)
        else:
            size = batch.add_message(message)
        self.bytes += size
        return size

    def complete(self, error: BaseException | None) -> None:
        """Complete with an error or None and wake all waiters; only the first call counts."""
        if not self.completed:
            self._timer.cancel()
            self.error = error
            self.completed = True
            for future in self._waiters:
                if not future.done():
                    future.set_result(None)
            self._waiters.clear()

    def _expire(self) -> None:
        self.complete(Unavailable("Kafka did not acknowledge in time"))


AppendResult = PendingBatch | InvalidMessage | Unavailable
"""The batch of a record, or the reason for its refusal."""


class PartitionQueue:
    """A partition's pending batches, oldest first; `busy` while one is in flight or scheduled."""

    __slots__ = ("batches", "busy", "compressed", "partition", "topic")

    def __init__(self, topic: str, partition: int) -> None:
        self.topic, self.partition = topic, partition
        self.compressed = topic in COMPRESSED
        self.batches: deque[PendingBatch] = deque()
        self.busy = False


class Accumulator:
    """Pending batches of all partitions, sent by one producer.

    `linger` (seconds) delays the first batch of an idle partition. Without `wire_encoding` aiokafka
    builds the batches. Must be created in a running event loop.
    """

    def __init__(self, producer: Any, linger: float, *, wire_encoding: bool = True) -> None:
        self.producer = producer
        self._wire_encoding = wire_encoding
        self._loop = asyncio.get_running_loop()
        self._linger = linger
        self._queues: dict[str, list[PartitionQueue]] = {}
        """Queues of each loaded topic, by partition."""
        self._scheduled: list[PartitionQueue] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._bytes = 0

    def has_topics(self, topics: set[str]) -> bool:
        """Return whether the topics are loaded."""
        return topics <= self._queues.keys()

    async def load_topic(self, topic: str) -> None:
        """Load the number of partitions of a topic. Raises KafkaError."""
        if topic not in self._queues:
            partitions = await self.producer.partitions_for(topic)
            self._queues.setdefault(
                topic, [PartitionQueue(topic, number) for number in range(len(partitions))]
            )

    def append(self, messages: Sequence[AnyMessage], deadline: float) -> list[AppendResult]:
        """Add records to the pending batches of their partitions; return a result for each.

        The topics must be loaded. The deadline of a batch is that of its first record.
        """
        return [self._append_message(message, deadline) for message in messages]

    def _append_message(self, message: AnyMessage, deadline: float) -> AppendResult:
        if self._wire_encoding and not isinstance(message, EncodedRecord):
            message = encode_record(message)
        record_size = _record_size(message)
        if record_size > MAX_RECORD_BYTES:
            size_fault = f"record of {record_size} bytes for {message.topic}"
            return InvalidMessage("too_large", f"{size_fault}: at most {MAX_RECORD_BYTES}")
        if self._bytes > MAX_BYTES:
            return Unavailable(f"{self._bytes:,} bytes wait for Kafka already")
        queues = self._queues[message.topic]
        queue = queues[partition_for_key(message.key, len(queues))]
        pending = queue.batches[-1] if queue.batches else None
        size = 0 if pending is None or pending.completed else pending.append(message)
        if pending is None or not size:
            pending = PendingBatch(self._new_batch(queue), deadline, self._loop)
            size = pending.append(message)
            queue.batches.append(pending)
            if not queue.busy:
                self._schedule(queue)
        self._bytes += size
        return pending

    def _new_batch(self, queue: PartitionQueue) -> RecordBatch | LibraryBatch:
        if self._wire_encoding:
            return RecordBatch(MAX_BATCH_BYTES, compressed=queue.compressed)
        return LibraryBatch(MAX_BATCH_BYTES)

    async def drain(self, seconds: float) -> None:
        """Wait until all pending batches are completed, at most `seconds`."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    async def close(self) -> None:
        """Cancel the batch in flight and complete all pending batches with Unavailable."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for queue in chain.from_iterable(self._queues.values()):
            while queue.batches:
                self._complete(queue.batches.popleft(), Unavailable("the producer was replaced"))

    def _schedule(self, queue: PartitionQueue) -> None:
        queue.busy = True
        self._scheduled.append(queue)
        if len(self._scheduled) == 1:
            # Partitions that become busy during the linger start together, in one request.
            self._loop.call_later(self._linger, self._start)

    def _start(self) -> None:
        for queue in self._scheduled:
            task = self._loop.create_task(self._run(queue))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._scheduled.clear()

    async def _run(self, queue: PartitionQueue) -> None:
        try:
            while queue.batches:
                pending = queue.batches.popleft()
                try:
                    self._complete(pending, await self._send(queue, pending))
                except asyncio.CancelledError:
                    self._complete(
                        pending,
                        Unavailable("the producer was replaced while the record was in flight"),
                    )
                    raise
        finally:
            queue.busy = False

    async def _send(self, queue: PartitionQueue, pending: PendingBatch) -> BaseException | None:
        if pending.completed:
            return None  # its deadline has passed: not sent
        try:
            await (
                await self.producer.send_batch(
                    pending.batch, queue.topic, partition=queue.partition
                )
            )
        except Exception as error:  # noqa: BLE001
            return error
        return None

    def _complete(self, pending: PendingBatch, error: BaseException | None) -> None:
        self._bytes -= pending.bytes
        pending.complete(error)


def _record_size(message: AnyMessage) -> int:
    """Return the size of a record, without the headers of one that is not encoded yet."""
    if isinstance(message, EncodedRecord):
        return len(message.record)
    return len(message.key) + len(message.value or b"")
