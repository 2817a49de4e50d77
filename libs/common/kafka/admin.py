"""Topics made as declared, and what the cluster says of itself."""

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
    """Create the topics that are missing and return their names; existing ones must have `partitions` partitions.

    Raises ConfigurationError when an existing topic has another number of partitions, since the shards of the outbox
    are the partitions of the contact-keyed topics.
    """
    client = await connect_admin(bootstrap_servers)
    try:
        present = {
            t["topic"]: len(t["partitions"])
            for t in await client.describe_topics()
            if not t["error_code"]
        }
        wrong = {
            t.name: present[t.name] for t in TOPICS if present.get(t.name, partitions) != partitions
        }
        if wrong:
            raise ConfigurationError(
                f"topics {wrong} should have {partitions} partitions: set PERIGEE_PARTITIONS to what they have"
            )
        missing = [t for t in TOPICS if t.name not in present]
        if missing:
            answer = await client.create_topics(
                [NewTopic(t.name, partitions, 1, topic_configs=t.settings) for t in missing]
            )
            _raise_faults(answer.topic_errors)
        return [t.name for t in missing]
    finally:
        await client.close()


def _raise_faults(answers: list[tuple[Any, ...]]) -> None:
    for name, code, *detail in answers:
        if code and code != TopicAlreadyExistsError.errno:
            raise ConfigurationError(
                f"topic {name}: the broker refused it: {for_code(code).__name__} {detail}"
            )


async def get_cluster_id(bootstrap_servers: str) -> str:
    """Return the id of the cluster that answers. Raises Unavailable when none does."""
    client = await connect_admin(bootstrap_servers)
    try:
        description = await client.describe_cluster()
        return str(description["cluster_id"])
    finally:
        await client.close()
