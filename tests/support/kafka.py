"""Topics of one test: creation, messages, reading."""

import secrets
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import NewTopic

from libs.common.kafka.admin import connect_admin
from libs.common.messages import Message


async def make_topic(bootstrap_servers: str, partitions: int = 3, **settings: str) -> str:
    """Create a topic with a random name and return the name."""
    name = f"test-{secrets.token_hex(6)}"
    client = await connect_admin(bootstrap_servers)
    try:
        await client.create_topics(
            [
                NewTopic(
                    name,
                    partitions,
                    1,
                    topic_configs={k.replace("_", "."): v for k, v in settings.items()},
                )
            ]
        )
    finally:
        await client.close()
    return name


async def read_topic(bootstrap_servers: str, topic: str, partitions: int = 3) -> list[Any]:
    """Return every record of the topic, partition by partition."""
    consumer: Any = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers)
    await consumer.start()
    try:
        partition_list = [TopicPartition(topic, p) for p in range(partitions)]
        consumer.assign(partition_list)
        for tp in partition_list:
            consumer.seek(tp, 0)
        ends = await consumer.end_offsets(partition_list)
        read_records: list[Any] = []
        while sum(ends.values()) > len(read_records):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                read_records += records
        return sorted(read_records, key=lambda r: (r.partition, r.offset))
    finally:
        await consumer.stop()


def numbered_message(topic: str, number: int = 0, key: bytes = b"k", size: int = 0) -> Message:
    """Return a message with a number as value, padded with `size` spaces."""
    return Message(topic, key, b"%d" % number + b" " * size, [("ce_id", b"%d" % number)])
