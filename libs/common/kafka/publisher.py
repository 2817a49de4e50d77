"""Publisher on an idempotent producer that is rebuilt after a refused record.

After a record that the broker refuses, an idempotent aiokafka producer fails every later record of
that partition, since the sequence number is used up. So any error except a time-out marks the
producer as broken, and the next call builds a new one. After a time-out the record may be stored
nevertheless: ids are deterministic, and consumers drop repeats.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError, ProducerClosed

from libs.common.compilation import PUBLISHER_MODULES
from libs.common.errors import InvalidMessage, Unavailable
from libs.common.kafka.accumulator import MAX_RECORD_BYTES, Accumulator, AppendResult, PendingBatch
from libs.common.kafka.wire.encoded_record import AnyMessage
from libs.common.observability import logs

CLOSE_SECONDS = 2
REFUSED_BY_BROKER = "refused_by_broker"
log = logs.get_logger(__name__)
PublishFault = InvalidMessage | Unavailable | None


class Publisher:
    """Publishes messages with acks=all and returns the outcome of each."""

    def __init__(
        self, bootstrap_servers: str, *, linger_ms: int = 0, wire_encoding: bool | None = None
    ) -> None:
        """Without `wire_encoding` aiokafka builds the batches; by default it is on when compiled.

        Raises ConfigurationError when its compiled modules do not fit the source.
        """
        compiled = PUBLISHER_MODULES.mode() == "compiled"
        self.wire_encoding = compiled if wire_encoding is None else wire_encoding
        self._bootstrap_servers = bootstrap_servers
        self._linger = linger_ms / 1_000
        self._accumulator: Accumulator | None = None
        self._broken = False
        self._lock = asyncio.Lock()
        self._single_lock = asyncio.Lock()

    async def check(self) -> str | None:
        """Return None when a broker answers. Raises KafkaError when none does."""
        await self._ready_accumulator()
        return None

    async def publish(self, messages: Sequence[AnyMessage], seconds: float) -> list[PublishFault]:
        """Send `messages` in order and wait for all acknowledgements, at most `seconds`.

        Returns one entry per message: None when Kafka acknowledged it, InvalidMessage when it can
        never be accepted, Unavailable when it may be sent again. Raises Unavailable when no broker
        answers.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        topics = {message.topic for message in messages}
        accumulator = self._accumulator
        if accumulator is None or self._broken or not accumulator.has_topics(topics):
            try:
                accumulator = await self._loaded_accumulator(topics, seconds)
            except (TimeoutError, KafkaError, OSError) as error:
                raise Unavailable(
                    f"Kafka at {self._bootstrap_servers} does not answer: {error!r}"
                ) from None
        faults = await self._send(accumulator, messages, deadline)
        if any(faults):
            for number, fault in enumerate(faults):
                if isinstance(fault, InvalidMessage) and fault.reason == REFUSED_BY_BROKER:
                    faults[number] = await self._send_single(messages[number], deadline)
        return faults

    async def _loaded_accumulator(self, topics: set[str], seconds: float) -> Accumulator:
        """Return the accumulator, topics loaded. Raises KafkaError, OSError, TimeoutError."""
        async with asyncio.timeout(seconds):
            accumulator = await self._ready_accumulator()
            for topic in topics:
                await accumulator.load_topic(topic)
            return accumulator

    async def _send_single(self, message: AnyMessage, deadline: float) -> PublishFault:
        """Send a refused message by itself.

        The broker refuses whole batches, so another message of the batch may be at fault.
        """
        fault: PublishFault = None
        for _ in range(3):
            # Serialized: refused messages sent concurrently would share a batch again.
            async with self._single_lock:
                try:
                    accumulator = await self._loaded_accumulator(
                        {message.topic}, max(0, deadline - asyncio.get_running_loop().time())
                    )
                except (TimeoutError, KafkaError, OSError) as error:
                    return Unavailable(f"{type(error).__name__}: {error}")
                (fault,) = await self._send(accumulator, [message], deadline)
            if not isinstance(fault, InvalidMessage):
                break
        return fault

    async def _send(
        self, accumulator: Accumulator, messages: Sequence[AnyMessage], deadline: float
    ) -> list[PublishFault]:
        results = accumulator.append(messages, deadline)
        distinct = set(results)
        for result in distinct:
            if isinstance(result, PendingBatch) and not result.completed:
                await result.acknowledgement()
        if all(isinstance(result, PendingBatch) and result.error is None for result in distinct):
            return [None] * len(results)
        return [self._outcome(accumulator, result) for result in results]

    def _outcome(self, accumulator: Accumulator, result: AppendResult) -> PublishFault:
        if not isinstance(result, PendingBatch):
            return result
        return None if result.error is None else self._fault(accumulator, result.error)

    def _fault(self, accumulator: Accumulator, error: BaseException) -> PublishFault:
        if isinstance(error, Unavailable):
            return error
        if isinstance(error, TimeoutError | KafkaTimeoutError):
            return Unavailable(f"Kafka did not answer in time: {error!r}")
        # An error of a producer that was replaced meanwhile does not concern its successor.
        self._broken = self._broken or (
            accumulator is self._accumulator and not isinstance(error, ProducerClosed)
        )
        if isinstance(error, KafkaError) and type(error).__name__ in _REFUSALS:
            return InvalidMessage(REFUSED_BY_BROKER, f"{type(error).__name__}: {error}")
        return Unavailable(f"{type(error).__name__}: {error}")

    async def _ready_accumulator(self) -> Accumulator:
        if self._accumulator is not None and not self._broken:
            return self._accumulator
        async with self._lock:
            if self._broken:
                log.warning("producer_rebuilt")
                await self._close_producer()
            if self._accumulator is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=self._bootstrap_servers,
                    acks="all",
                    enable_idempotence=True,
                    max_request_size=MAX_RECORD_BYTES + 40_000,
                    request_timeout_ms=5_000,
                )
                try:
                    await producer.start()
                except BaseException:
                    await _stop(producer)
                    raise
                self._accumulator = Accumulator(
                    producer, self._linger, wire_encoding=self.wire_encoding
                )
            return self._accumulator

    async def _close_producer(self) -> None:
        accumulator, self._accumulator, self._broken = self._accumulator, None, False
        if accumulator is not None:
            await accumulator.close()
            await _stop(accumulator.producer)

    async def close(self) -> None:
        """Flush pending batches, for CLOSE_SECONDS at most, and disconnect."""
        async with self._lock:
            if self._accumulator is not None:
                await self._accumulator.drain(CLOSE_SECONDS)
            await self._close_producer()


_REFUSALS = frozenset(
    {
        "MessageSizeTooLargeError",
        "RecordListTooLargeError",
        "RecordTooLargeError",
        "CorruptRecordException",
        "InvalidTimestampError",
        "UnknownError",
        "InvalidTopicError",
        "PolicyViolationError",
    }
)


async def _stop(producer: Any) -> None:
    # Bounded: stop() waits for outstanding batches, which an idempotent producer retries forever.
    with contextlib.suppress(TimeoutError, KafkaError, OSError):
        await asyncio.wait_for(producer.stop(), CLOSE_SECONDS)
