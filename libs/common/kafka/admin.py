"""Creation of the declared topics, and the id of the cluster."""

from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from libs.common.errors import ConfigurationError, Unavailable
from libs.common.topics import TOPICS


async def connect_admin(bootstrap_servers: str) -> Any:
    """Return a started admin client. Raises Unavailable when no broker answers."""
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, request_timeout_ms=5_000)
    try:
        await client.start()
    except (KafkaError, OSError) as error:
        await client.close()
        raise Unavailable(f"Kafka at {bootstrap_servers} does not answer: {error}") from None
    return client


async def apply_topics(bootstrap_servers: str, partitions: int) -> list[str]:
    """Create the missing topics with `partitions` partitions and return their names.

    Raises ConfigurationError when an existing topic has another number of partitions, since the
    shards of the outbox are the partitions of the contact-keyed topics.
    """
    client = await connect_admin(bootstrap_servers)
    try:
        partition_counts = {
            t["topic"]: len(t["partitions"])
            for t in await client.describe_topics()
            if not t["error_code"]
        }
        wrong = {
            t.name: partition_counts[t.name]
            for t in TOPICS
            if partition_counts.get(t.name, partitions) != partitions
        }
        if wrong:
            raise ConfigurationError(
                f"topics {wrong} should have {partitions} partitions: "
                "set PERIGEE_PARTITIONS to the existing number"
            )
        missing = [t for t in TOPICS if t.name not in partition_counts]
        if missing:
            response = await client.create_topics(
                [NewTopic(t.name, partitions, 1, topic_configs=t.settings) for t in missing]
            )
            _raise_faults(response.topic_errors)
        return [t.name for t in missing]
    finally:
        await client.close()


def _raise_faults(topic_errors: list[tuple[Any, ...]]) -> None:
    for name, code, *detail in topic_errors:
        if code and code != TopicAlreadyExistsError.errno:
            raise ConfigurationError(
                f"topic {name}: refused by the broker: {for_code(code).__name__} {detail}"
            )


async def get_cluster_id(bootstrap_servers: str) -> str:
    """Return the id of the cluster. Raises Unavailable when no broker answers."""
    client = await connect_admin(bootstrap_servers)
    try:
        description = await client.describe_cluster()
        return str(description["cluster_id"])
    finally:
        await client.close()
