"""The topics: who writes them, who reads them, how they are kept. `perigee topics apply` makes them so."""

from typing import Literal

import msgspec

TopicName = Literal[
    "touchpoints",
    "touchpoints-dlq",
    "scoring-dlq",
    "orchestrator-dlq",
    "stage-changes",
    "contacts",
    "signals",
    "compelling-events",
    "actions",
]

_DAY_MS = 86_400_000


class Topic(msgspec.Struct, frozen=True):
    """One topic: its key, its one writer, its readers and its Kafka settings."""

    name: TopicName
    key: str
    writer: str
    readers: str
    settings: dict[str, str]


def _kept(days: int) -> dict[str, str]:
    return {"retention.ms": str(days * _DAY_MS), "max.message.bytes": "1048576"}


TOPICS: tuple[Topic, ...] = (
    Topic(
        "touchpoints",
        "workspace + user_id, else anonymous_id, else message_id",
        "ingest",
        "scoring, anyone",
        {**_kept(7), "message.timestamp.type": "LogAppendTime"},
    ),
    Topic("touchpoints-dlq", "as the original", "ingest", "operator", _kept(7)),
    Topic("scoring-dlq", "as the original", "scoring", "operator", _kept(7)),
    Topic("orchestrator-dlq", "as the original", "orchestrator", "operator", _kept(7)),
    Topic("stage-changes", "contact_id", "scoring", "orchestrator, CRMs", _kept(30)),
    Topic(
        "contacts",
        "contact_id",
        "scoring",
        "CRMs",
        {"cleanup.policy": "compact", "delete.retention.ms": str(7 * _DAY_MS), "max.message.bytes": "1048576"},
    ),
    Topic("signals", "contact_id", "scoring", "orchestrator, CRMs", _kept(30)),
    Topic(
        "compelling-events",
        "contact_id or account_id, else event_id",
        "scoring",
        "orchestrator, CRMs",
        _kept(30),
    ),
    Topic("actions", "contact_id", "orchestrator", "CRMs, external executors", _kept(30)),
)


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition of a key: Kafka's own default, murmur2 with the sign bit cleared.

    One shard of an outbox is one partition, so the same function says both.
    """
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def murmur2(data: bytes) -> int:
    """Return MurmurHash2 (Austin Appleby, public domain; seed 0x9747b28c) as Kafka's clients compute it."""
    length = len(data)
    m = 0x5BD1E995
    h = 0x9747B28C ^ length
    for at in range(0, length - 3, 4):
        k = int.from_bytes(data[at : at + 4], "little") * m & 0xFFFFFFFF
        k = (k ^ (k >> 24)) * m & 0xFFFFFFFF
        h = (h * m & 0xFFFFFFFF) ^ k
    rest = data[length & ~3 :]
    if rest:
        h = (h ^ int.from_bytes(rest, "little")) * m & 0xFFFFFFFF
    h = (h ^ (h >> 13)) * m & 0xFFFFFFFF
    return h ^ (h >> 15)
