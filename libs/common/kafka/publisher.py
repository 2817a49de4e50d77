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
from aiokafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError, ProducerClosed

from libs.common.errors import InvalidMessage, Unavailable
from libs.common.messages import Message
from libs.common.observability import logs

MAX_RECORD_BYTES = 1_000_000
"""Below the topics' `max.message.bytes` (1,048,576), so that the client refuses before the broker does."""

REFUSED = "refused_by_broker"
log = logs.get(__name__)
Fault = InvalidMessage | Unavailable | None


class Publisher:
    """Publishes messages and says of each whether Kafka has it (acks=all)."""

    def __init__(self, bootstrap_servers: str, *, linger_ms: int = 0, max_in_flight: int = 20_000) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._linger_ms = linger_ms
        self._producer: Any = None
        self._broken = False
        self._lock = asyncio.Lock()
        self._one_alone = asyncio.Lock()
        self._room = asyncio.Semaphore(max_in_flight)

    async def check(self) -> str | None:
        """Return None when a broker answers. Raises KafkaError when none does."""
        await self._ready()
        return None

    async def publish(self, messages: Sequence[Message], seconds: float) -> list[Fault]:
        """Send `messages` in order and wait for all acknowledgements, at most `seconds`.

        Returns one entry per message: None when Kafka has it, InvalidMessage when it can never be taken, Unavailable
        when it may be sent again. Raises Unavailable when there is no broker at all.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        try:
            producer = await asyncio.wait_for(self._ready(), seconds)
        except (TimeoutError, KafkaError, OSError) as error:
            raise Unavailable(f"Kafka at {self._bootstrap_servers} does not answer: {error!r}") from None
        waiting = [await self._send(producer, message, deadline) for message in messages]
        faults = await self._settle(producer, waiting, deadline)
        for number, fault in enumerate(faults):
            if isinstance(fault, InvalidMessage) and fault.reason == REFUSED:
                faults[number] = await self._alone(messages[number], deadline)
        return faults

    async def _alone(self, message: Message, deadline: float) -> Fault:
        """Send a refused message by itself: the broker refuses whole batches, and a neighbour may be to blame."""
        fault: Fault = None
        for _ in range(3):
            async with self._one_alone:  # the refused of one batch would meet in the next one otherwise
                try:
                    producer = await self._ready()
                except (KafkaError, OSError) as error:
                    return Unavailable(f"{type(error).__name__}: {error}")
                (fault,) = await self._settle(producer, [await self._send(producer, message, deadline)], deadline)
            if not isinstance(fault, InvalidMessage):
                break
        return fault

    async def _send(self, producer: Any, message: Message, deadline: float) -> "asyncio.Future[Any] | Fault":
        left = deadline - asyncio.get_running_loop().time()
        headers = sum(len(name) + len(value) for name, value in message.headers)
        if len(message.value or b"") + len(message.key) + headers > MAX_RECORD_BYTES:
            return InvalidMessage("too_large", f"record of {len(message.value or b'')} bytes for {message.topic}")
        if left <= 0:
            return Unavailable("no time left to send")
        try:
            await asyncio.wait_for(self._room.acquire(), left)
        except TimeoutError:
            return Unavailable("too many records wait for Kafka")
        try:
            future: asyncio.Future[Any] = await asyncio.wait_for(
                producer.send(message.topic, message.value, message.key, headers=message.headers), left
            )
        except MessageSizeTooLargeError as error:
            self._room.release()
            return InvalidMessage("too_large", str(error))
        except (TimeoutError, KafkaError) as error:
            self._room.release()
            return self._fault(producer, error)
        future.add_done_callback(lambda _: self._room.release())
        return future

    async def _settle(
        self, producer: Any, waiting: "list[asyncio.Future[Any] | Fault]", deadline: float
    ) -> list[Fault]:
        futures = [w for w in waiting if isinstance(w, asyncio.Future)]
        left = max(0.0, deadline - asyncio.get_running_loop().time())
        if futures:
            await asyncio.wait(futures, timeout=left)
        return [self._outcome(producer, w) if isinstance(w, asyncio.Future) else w for w in waiting]

    def _outcome(self, producer: Any, future: "asyncio.Future[Any]") -> Fault:
        if not future.done():
            future.add_done_callback(_swallow)
            return Unavailable("Kafka did not acknowledge in time")
        error = None if future.cancelled() else future.exception()
        if future.cancelled():
            return Unavailable("the record was withdrawn")
        return None if error is None else self._fault(producer, error)

    def _fault(self, producer: Any, error: BaseException) -> Fault:
        if isinstance(error, TimeoutError | KafkaTimeoutError):
            return Unavailable(f"Kafka did not answer in time: {error!r}")
        # An error of a producer that was replaced meanwhile says nothing of its successor.
        self._broken = self._broken or (producer is self._producer and not isinstance(error, ProducerClosed))
        if isinstance(error, KafkaError) and type(error).__name__ in _REFUSALS:
            return InvalidMessage(REFUSED, f"{type(error).__name__}: {error}")
        return Unavailable(f"{type(error).__name__}: {error}")

    async def _ready(self) -> Any:
        async with self._lock:
            if self._broken:
                log.warning("producer_rebuilt")
                await self._drop()
            if self._producer is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=self._bootstrap_servers,
                    acks="all",
                    enable_idempotence=True,
                    linger_ms=self._linger_ms,
                    max_request_size=MAX_RECORD_BYTES + 40_000,
                    request_timeout_ms=5_000,
                )
                try:
                    await producer.start()
                except BaseException:
                    await _close(producer)
                    raise
                self._producer = producer
            return self._producer

    async def _drop(self) -> None:
        producer, self._producer, self._broken = self._producer, None, False
        if producer is not None:
            await _close(producer)

    async def close(self) -> None:
        """Flush what is under way, for two seconds at most, and disconnect."""
        async with self._lock:
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


def _swallow(future: "asyncio.Future[Any]") -> None:
    if not future.cancelled():
        future.exception()


async def _close(producer: Any) -> None:
    # stop() waits for outstanding batches, which an idempotent producer never gives up.
    with contextlib.suppress(TimeoutError, KafkaError, OSError):
        await asyncio.wait_for(producer.stop(), 2)
