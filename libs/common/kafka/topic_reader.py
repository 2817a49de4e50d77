"""Reading topics beside their consumers: all that is there, or what comes from now on. Nothing is committed."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from libs.common.errors import Unavailable
from libs.common.kafka.record import Record, record_from_aiokafka

SECONDS = 10


@asynccontextmanager
async def _consumer(bootstrap_servers: str, topics: Sequence[str]) -> AsyncIterator[Any]:
    consumer: Any = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest", fetch_max_wait_ms=100
    )
    try:
        await consumer.start()
        places = []
        for topic in topics:
            await consumer._client._wait_on_metadata(topic)  # noqa: SLF001
            places += [
                TopicPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic) or ())
            ]
        consumer.assign(places)
        yield consumer
    except (KafkaError, OSError) as error:
        raise Unavailable(f"Kafka at {bootstrap_servers} does not answer: {error!r}") from None
    finally:
        await consumer.stop()


async def read_to_end(bootstrap_servers: str, topic: str) -> AsyncIterator[Record]:
    """Yield every record from the topic's beginning to its present end; each partition in order.

    Raises Unavailable when Kafka does not answer.
    """
    async with _consumer(bootstrap_servers, [topic]) as consumer:
        ends = await consumer.end_offsets(consumer.assignment())
        while any([await consumer.position(tp) < end for tp, end in ends.items()]):
            for tp, found in (await consumer.getmany(timeout_ms=200)).items():
                for raw in found:
                    if raw.offset < ends[tp]:
                        yield record_from_aiokafka(raw)


async def read_all(bootstrap_servers: str, topic: str) -> list[Record]:
    """Return what `present` yields, partition by partition. Raises Unavailable when Kafka does not answer."""
    found = [record async for record in read_to_end(bootstrap_servers, topic)]
    return sorted(found, key=lambda record: (record.partition, record.offset))


async def follow_topics(bootstrap_servers: str, topics: Sequence[str]) -> AsyncIterator[Record]:
    """Yield what is appended to the topics from now on, for ever. Raises Unavailable when Kafka does not answer."""
    async with _consumer(bootstrap_servers, topics) as consumer:
        await consumer.seek_to_end()
        for tp in consumer.assignment():
            await consumer.position(tp)  # the end of now, and not of the first poll
        while True:
            for found in (await consumer.getmany(timeout_ms=500)).values():
                for raw in found:
                    yield record_from_aiokafka(raw)


async def read_at_offsets(
    bootstrap_servers: str, topic: str, places: Iterable[tuple[int, int]]
) -> dict[tuple[int, int], Record]:
    """Return the records at these (partition, offset); those that the log does not hold (any more) are left out.

    Raises Unavailable.
    """
    found: dict[tuple[int, int], Record] = {}
    async with _consumer(bootstrap_servers, [topic]) as consumer:
        there = consumer.assignment()
        beginnings, ends = (
            await consumer.beginning_offsets(there),
            await consumer.end_offsets(there),
        )
        for partition, offset in sorted(set(places)):
            place = TopicPartition(topic, partition)
            if not beginnings.get(place, 0) <= offset < ends.get(place, 0):
                continue
            consumer.assign([place])
            consumer.seek(place, offset)
            try:
                raw = await asyncio.wait_for(consumer.getone(), SECONDS)
            except TimeoutError:
                continue  # deleted since we looked
            if raw.offset == offset:
                found[partition, offset] = record_from_aiokafka(raw)
    return found
