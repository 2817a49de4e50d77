"""Topic reads outside a consumer group: all records, new records, or single ones; no commits."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from libs.common.errors import Unavailable
from libs.common.kafka.record import Record, record_from_aiokafka

READ_SECONDS = 10


@asynccontextmanager
async def _consumer(bootstrap_servers: str, topics: Sequence[str]) -> AsyncIterator[Any]:
    consumer: Any = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest", fetch_max_wait_ms=100
    )
    try:
        await consumer.start()
        partitions = []
        for topic in topics:
            await consumer._client._wait_on_metadata(topic)  # noqa: SLF001
            partitions += [
                TopicPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic) or ())
            ]
        consumer.assign(partitions)
        yield consumer
    except (KafkaError, OSError) as error:
        raise Unavailable(f"Kafka at {bootstrap_servers} does not answer: {error!r}") from None
    finally:
        await consumer.stop()


async def get_end_offsets(
    bootstrap_servers: str, topics: Sequence[str]
) -> dict[tuple[str, int], int]:
    """Return the topics' end offsets by (topic, partition). Raises Unavailable."""
    async with _consumer(bootstrap_servers, topics) as consumer:
        ends = await consumer.end_offsets(consumer.assignment())
    return {(place.topic, place.partition): offset for place, offset in ends.items()}


async def read_to_end(bootstrap_servers: str, topic: str) -> AsyncIterator[Record]:
    """Yield every record from the topic's beginning to its current end; each partition in order.

    Raises Unavailable when Kafka does not answer.
    """
    async with _consumer(bootstrap_servers, [topic]) as consumer:
        ends = await consumer.end_offsets(consumer.assignment())
        while any([await consumer.position(tp) < end for tp, end in ends.items()]):
            for tp, raw_records in (await consumer.getmany(timeout_ms=200)).items():
                for raw in raw_records:
                    if raw.offset < ends[tp]:
                        yield record_from_aiokafka(raw)


async def read_all(bootstrap_servers: str, topic: str) -> list[Record]:
    """Return the records of `read_to_end`, partition by partition.

    Raises Unavailable when Kafka does not answer.
    """
    records = [record async for record in read_to_end(bootstrap_servers, topic)]
    return sorted(records, key=lambda record: (record.partition, record.offset))


async def follow_topics(bootstrap_servers: str, topics: Sequence[str]) -> AsyncIterator[Record]:
    """Yield the records that are appended from now on, without end.

    Raises Unavailable when Kafka does not answer.
    """
    async with _consumer(bootstrap_servers, topics) as consumer:
        await consumer.seek_to_end()
        for tp in consumer.assignment():
            await consumer.position(tp)  # resolves the end now, not at the first poll
        while True:
            for raw_records in (await consumer.getmany(timeout_ms=500)).values():
                for raw in raw_records:
                    yield record_from_aiokafka(raw)


async def read_at_offsets(
    bootstrap_servers: str, topic: str, positions: Iterable[tuple[int, int]]
) -> dict[tuple[int, int], Record]:
    """Return the records at the given (partition, offset), without those no longer in the topic.

    Raises Unavailable.
    """
    records: dict[tuple[int, int], Record] = {}
    async with _consumer(bootstrap_servers, [topic]) as consumer:
        assignment = consumer.assignment()
        beginnings, ends = (
            await consumer.beginning_offsets(assignment),
            await consumer.end_offsets(assignment),
        )
        for partition, offset in sorted(set(positions)):
            tp = TopicPartition(topic, partition)
            if not beginnings.get(tp, 0) <= offset < ends.get(tp, 0):
                continue
            consumer.assign([tp])
            consumer.seek(tp, offset)
            try:
                raw = await asyncio.wait_for(consumer.getone(), READ_SECONDS)
            except TimeoutError:
                continue  # deleted since the offsets were read
            if raw.offset == offset:
                records[partition, offset] = record_from_aiokafka(raw)
    return records
