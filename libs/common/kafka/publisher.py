"""An idempotent producer that outlives a refused record.

After one record that the broker refuses, an idempotent aiokafka producer fails every later record of that partition
(it has spent the sequence number). So any error that is not a time-out marks the producer as broken, and the next call
builds a new one. A time-out does not say that the record was not stored: ids are deterministic, readers drop repeats.
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
    """Publishes messages and says of each whether Kafka has it (acks=all)."""

    def __init__(self, bootstrap_servers: str, *, linger_ms: int = 0) -> None:
        """Raise ConfigurationError when what is compiled of it is not of its source."""
        PUBLISHER_MODULES.mode()
        self._bootstrap_servers = bootstrap_servers
        self._linger = linger_ms / 1_000
        self._accumulator: Accumulator | None = None
        self._broken = False
        self._lock = asyncio.Lock()
        self._one_alone = asyncio.Lock()

    async def check(self) -> str | None:
        """Return None when a broker answers. Raises KafkaError when none does."""
        await self._ready()
        return None

    async def publish(self, messages: Sequence[AnyMessage], seconds: float) -> list[PublishFault]:
        """Send `messages` in order and wait for all acknowledgements, at most `seconds`.

        Returns one entry per message: None when Kafka has it, InvalidMessage when it can never be taken, Unavailable
        when it may be sent again. Raises Unavailable when there is no broker at all.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        topics = {message.topic for message in messages}
        accumulator = self._accumulator
        if accumulator is None or self._broken or not accumulator.has_topics(topics):
            try:
                accumulator = await self._known(topics, seconds)
            except (TimeoutError, KafkaError, OSError) as error:
                raise Unavailable(
                    f"Kafka at {self._bootstrap_servers} does not answer: {error!r}"
                ) from None
        faults = await self._sent(accumulator, messages, deadline)
        if any(faults):
            for number, fault in enumerate(faults):
                if isinstance(fault, InvalidMessage) and fault.reason == REFUSED_BY_BROKER:
                    faults[number] = await self._alone(messages[number], deadline)
        return faults

    async def _known(self, topics: set[str], seconds: float) -> Accumulator:
        """Return what sends, once it knows the topics. Raises KafkaError, OSError, TimeoutError."""
        async with asyncio.timeout(seconds):
            accumulator = await self._ready()
            for topic in topics:
                await accumulator.load_topic(topic)
            return accumulator

    async def _alone(self, message: AnyMessage, deadline: float) -> PublishFault:
        """Send a refused message by itself: the broker refuses whole batches, and a neighbour may be to blame."""
        fault: PublishFault = None
        for _ in range(3):
            async with (
                self._one_alone
            ):  # the refused of one batch would meet in the next one otherwise
                try:
                    accumulator = await self._known(
                        {message.topic}, max(0, deadline - asyncio.get_running_loop().time())
                    )
                except (TimeoutError, KafkaError, OSError) as error:
                    return Unavailable(f"{type(error).__name__}: {error}")
                (fault,) = await self._sent(accumulator, [message], deadline)
            if not isinstance(fault, InvalidMessage):
                break
        return fault

    async def _sent(
        self, accumulator: Accumulator, messages: Sequence[AnyMessage], deadline: float
    ) -> list[PublishFault]:
        places = accumulator.append(messages, deadline)
        distinct = set(places)
        for place in distinct:
            if isinstance(place, PendingBatch) and not place.settled:
                await place.acknowledgement()
        if all(isinstance(place, PendingBatch) and place.error is None for place in distinct):
            return [None] * len(places)
        return [self._outcome(accumulator, place) for place in places]

    def _outcome(self, accumulator: Accumulator, place: AppendResult) -> PublishFault:
        if not isinstance(place, PendingBatch):
            return place
        return None if place.error is None else self._fault(accumulator, place.error)

    def _fault(self, accumulator: Accumulator, error: BaseException) -> PublishFault:
        if isinstance(error, Unavailable):
            return error
        if isinstance(error, TimeoutError | KafkaTimeoutError):
            return Unavailable(f"Kafka did not answer in time: {error!r}")
        # An error of a producer that was replaced meanwhile says nothing of its successor.
        self._broken = self._broken or (
            accumulator is self._accumulator and not isinstance(error, ProducerClosed)
        )
        if isinstance(error, KafkaError) and type(error).__name__ in _REFUSALS:
            return InvalidMessage(REFUSED_BY_BROKER, f"{type(error).__name__}: {error}")
        return Unavailable(f"{type(error).__name__}: {error}")

    async def _ready(self) -> Accumulator:
        if self._accumulator is not None and not self._broken:
            return self._accumulator
        async with self._lock:
            if self._broken:
                log.warning("producer_rebuilt")
                await self._drop()
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
                    await _close(producer)
                    raise
                self._accumulator = Accumulator(producer, self._linger)
            return self._accumulator

    async def _drop(self) -> None:
        accumulator, self._accumulator, self._broken = self._accumulator, None, False
        if accumulator is not None:
            await accumulator.close()
            await _close(accumulator.producer)

    async def close(self) -> None:
        """Flush what is under way, for CLOSE_SECONDS at most, and disconnect."""
        async with self._lock:
            if self._accumulator is not None:
                await self._accumulator.drain(CLOSE_SECONDS)
            await self._drop()


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


async def _close(producer: Any) -> None:
    # stop() waits for outstanding batches, which an idempotent producer never gives up.
    with contextlib.suppress(TimeoutError, KafkaError, OSError):
        await asyncio.wait_for(producer.stop(), CLOSE_SECONDS)
