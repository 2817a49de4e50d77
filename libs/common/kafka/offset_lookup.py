"""Look-up of the offset of record: where a consumer continues on each partition."""

from collections.abc import Iterable, Sequence
from typing import Any

from aiokafka import TopicPartition

from libs.common.errors import OffsetGap
from libs.common.kafka.record import BatchHandler


async def read_initial_offsets(
    consumer: Any, handler: BatchHandler, topics: Sequence[str]
) -> dict[Any, int]:
    """Read the offsets of record before any partition is assigned.

    On assignment aiokafka looks up committed offsets at once; if there are none before our
    listener has called seek, its fetcher fails. An initial position, even an outdated one,
    prevents the lookup.
    """
    partitions = []
    for topic in topics:
        await consumer._client._wait_on_metadata(topic)  # noqa: SLF001
        partitions += [TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic) or ()]
    beginnings = await consumer.beginning_offsets(partitions)
    return {
        tp: await handler.next_offset(tp.topic, tp.partition, beginnings[tp]) for tp in partitions
    }


async def get_offsets_of_record(
    consumer: Any, handler: BatchHandler, partitions: Iterable[Any]
) -> dict[Any, int]:
    """Return the offset of record of each partition.

    Raises OffsetGap when a partition does not contain it. Kafka is asked for all partitions
    together, since each request waits behind an open fetch on the same connection.
    """
    ordered = sorted(partitions)
    if not ordered:
        return {}
    beginnings = await consumer.beginning_offsets(ordered)
    offsets = {
        tp: await handler.next_offset(tp.topic, tp.partition, beginnings[tp]) for tp in ordered
    }
    # Read after the rows, since another owner may advance a row while the end advances.
    ends = await consumer.end_offsets(ordered)
    for tp, offset in offsets.items():
        if not beginnings[tp] <= offset <= ends[tp]:
            raise OffsetGap(
                f"{tp.topic}-{tp.partition} begins at {beginnings[tp]} and ends at {ends[tp]}, "
                f"but {offset} comes next: records were deleted unread, or the topic was "
                "created anew. Restore it or move the offset row by hand (docs/operations.md)"
            )
    return offsets
