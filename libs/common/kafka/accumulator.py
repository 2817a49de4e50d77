"""Gathers records by partition while those before them are under way, and sends what has gathered as one batch.

A busy door so makes few large batches, an idle one answers at once; and all who wait for a batch are told by it, where
aiokafka's `send` makes a future and two waits for each record. One batch of a partition is under way at a time, so order is kept.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from itertools import chain
from typing import Any

from libs.common.errors import InvalidMessage, Unavailable
from libs.common.kafka.wire.encoded_record import AnyMessage, EncodedRecord, encode_record
from libs.common.kafka.wire.record_batch import RecordBatch
from libs.common.partitioner import partition_for_key
from libs.common.topics import COMPRESSED

MAX_BYTES = 64 * 1024 * 1024
"""Of records that wait for Kafka: what comes when there are more is refused at once."""
MAX_BATCH_BYTES = 256 * 1024
MAX_RECORD_BYTES = 1_000_000
"""Below the topics' `max.message.bytes` (1,048,576), so that the client refuses before the broker does."""


class PendingBatch:
    """Records of one partition that go together; settled once, for all who wait for any of them.

    It is settled at its deadline at the latest, by one timer for all: Kafka may have the records nevertheless, later.
    """

    __slots__ = ("_loop", "_timer", "_waiting", "batch", "bytes", "error", "settled")

    def __init__(
        self, batch: RecordBatch, deadline: float, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.batch = batch
        self.bytes = 0
        self.settled = False
        self.error: BaseException | None = None
        self._loop = loop
        self._waiting: list[asyncio.Future[None]] = []
        self._timer = loop.call_at(deadline, self._give_up)

    def acknowledgement(self) -> asyncio.Future[None]:
        """Return what is done when it is settled; to be asked for before that. A future for each who waits: one may give up."""
        future = self._loop.create_future()
        self._waiting.append(future)
        return future

    def append(self, message: EncodedRecord) -> int:
        """Add a record and return its bytes; 0 when the group is full."""
        size = self.batch.add(message.record)
        self.bytes += size
        return size

    def complete(self, error: BaseException | None) -> None:
        """Tell all who wait; what was told first stands."""
        if not self.settled:
            self._timer.cancel()
            self.error = error
            self.settled = True
            for future in self._waiting:
                if not future.done():
                    future.set_result(None)
            self._waiting.clear()

    def _give_up(self) -> None:
        self.complete(Unavailable("Kafka did not acknowledge in time"))


AppendResult = PendingBatch | InvalidMessage | Unavailable
"""Where a record waits, or why it does not."""


class PartitionQueue:
    """A partition's groups, oldest first; `busy` while one of them is under way or will be in a moment."""

    __slots__ = ("busy", "compressed", "partition", "topic", "waiting")

    def __init__(self, topic: str, partition: int) -> None:
        self.topic, self.partition = topic, partition
        self.compressed = topic in COMPRESSED
        self.waiting: deque[PendingBatch] = deque()
        self.busy = False


class Accumulator:
    """Sends by one producer; `linger` (seconds) is how long the first record of an idle partition waits for others.

    To be made where its loop runs.
    """

    def __init__(self, producer: Any, linger: float) -> None:
        self.producer = producer
        self._loop = asyncio.get_running_loop()
        self._linger = linger
        self._lanes: dict[str, list[PartitionQueue]] = {}
        """Of each topic that is known, by partition."""
        self._starting: list[PartitionQueue] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._bytes = 0

    def has_topics(self, topics: set[str]) -> bool:
        """Return whether the topics' partitions are known."""
        return topics <= self._lanes.keys()

    async def load_topic(self, topic: str) -> None:
        """Learn how many partitions a topic has. Raises KafkaError."""
        if topic not in self._lanes:
            partitions = await self.producer.partitions_for(topic)
            self._lanes.setdefault(
                topic, [PartitionQueue(topic, number) for number in range(len(partitions))]
            )

    def append(self, messages: Sequence[AnyMessage], deadline: float) -> list[AppendResult]:
        """Put records into their partitions' groups, and say where each is; their topics are known.

        A group's deadline is that of its first record: the others came at most a batch later.
        """
        return [
            self._add(one if isinstance(one, EncodedRecord) else encode_record(one), deadline)
            for one in messages
        ]

    def _add(self, message: EncodedRecord, deadline: float) -> AppendResult:
        if len(message.record) > MAX_RECORD_BYTES:
            too_large = f"record of {len(message.record)} bytes for {message.topic}: at most {MAX_RECORD_BYTES}"
            return InvalidMessage("too_large", too_large)
        if self._bytes > MAX_BYTES:
            return Unavailable(f"{self._bytes:,} bytes wait for Kafka already")
        lanes = self._lanes[message.topic]
        lane = lanes[partition_for_key(message.key, len(lanes))]
        group = lane.waiting[-1] if lane.waiting else None
        size = 0 if group is None or group.settled else group.append(message)
        if group is None or not size:
            group = PendingBatch(
                RecordBatch(MAX_BATCH_BYTES, compressed=lane.compressed), deadline, self._loop
            )
            size = group.append(message)
            lane.waiting.append(group)
            if not lane.busy:
                self._start_soon(lane)
        self._bytes += size
        return group

    async def drain(self, seconds: float) -> None:
        """Wait until nothing waits any more, at most `seconds`."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    async def close(self) -> None:
        """Settle what waits: it was not sent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for lane in chain.from_iterable(self._lanes.values()):
            while lane.waiting:
                self._settle(lane.waiting.popleft(), Unavailable("the producer was replaced"))

    def _start_soon(self, lane: PartitionQueue) -> None:
        lane.busy = True
        self._starting.append(lane)
        if (
            len(self._starting) == 1
        ):  # all that become busy meanwhile start together, and go in one request
            self._loop.call_later(self._linger, self._start)

    def _start(self) -> None:
        for lane in self._starting:
            task = self._loop.create_task(self._run(lane))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._starting.clear()

    async def _run(self, lane: PartitionQueue) -> None:
        try:
            while lane.waiting:
                group = lane.waiting.popleft()
                try:
                    self._settle(group, await self._send(lane, group))
                except asyncio.CancelledError:
                    self._settle(
                        group,
                        Unavailable("the producer was replaced while the record was under way"),
                    )
                    raise
        finally:
            lane.busy = False

    async def _send(self, lane: PartitionQueue, group: PendingBatch) -> BaseException | None:
        if group.settled:
            return None  # Kafka was away for longer than anybody waits: not sent
        try:
            await (
                await self.producer.send_batch(group.batch, lane.topic, partition=lane.partition)
            )
        except Exception as error:  # noqa: BLE001
            return error
        return None

    def _settle(self, group: PendingBatch, error: BaseException | None) -> None:
        self._bytes -= group.bytes
        group.complete(error)
