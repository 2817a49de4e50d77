"""Reading a whole topic, once."""

from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition


async def messages(bootstrap_servers: str, topic: str) -> list[Any]:
    """Return every record of a topic from its beginning to its present end, partition by partition, in order."""
    consumer: Any = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        await consumer._client._wait_on_metadata(topic)  # noqa: SLF001 - makes the topic known to this client
        places = [TopicPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic) or ())]
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        found: dict[Any, list[Any]] = {tp: [] for tp in places}
        while any([await consumer.position(tp) < ends[tp] for tp in places]):
            for tp, records in (await consumer.getmany(timeout_ms=200)).items():
                found[tp] += [r for r in records if r.offset < ends[tp]]
        return [record for tp in places for record in found[tp]]
    finally:
        await consumer.stop()
