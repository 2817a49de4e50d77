"""The topics: key, writer, readers and Kafka settings; `perigee topics apply` creates them."""

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
    """Kafka topic: key, single writer, readers and settings."""

    name: TopicName
    key: str
    writer: str
    readers: str
    settings: dict[str, str]
    compressed: bool = False
    """Large batches are compressed with LZ4; consumers need an LZ4 codec."""


def _retention(days: int) -> dict[str, str]:
    return {"retention.ms": str(days * _DAY_MS), "max.message.bytes": "1048576"}


TOPICS: tuple[Topic, ...] = (
    Topic(
        "touchpoints",
        "workspace + anonymous_id, else user_id, else external id, else message_id",
        "ingest",
        "scoring, any subscriber",
        {**_retention(7), "message.timestamp.type": "LogAppendTime"},
        compressed=True,
    ),
    Topic("touchpoints-dlq", "the original record's key", "ingest", "operator", _retention(7)),
    Topic("scoring-dlq", "the original record's key", "scoring", "operator", _retention(7)),
    Topic(
        "orchestrator-dlq", "the original record's key", "orchestrator", "operator", _retention(7)
    ),
    Topic("stage-changes", "contact_id", "scoring", "orchestrator, CRMs", _retention(30)),
    Topic(
        "contacts",
        "contact_id",
        "scoring",
        "CRMs",
        {
            "cleanup.policy": "compact",
            "delete.retention.ms": str(7 * _DAY_MS),
            "max.message.bytes": "1048576",
        },
    ),
    Topic("signals", "contact_id", "scoring", "orchestrator, CRMs", _retention(30)),
    Topic(
        "compelling-events",
        "contact_id or account_id, else event_id",
        "scoring",
        "orchestrator, CRMs",
        _retention(30),
    ),
    Topic("actions", "contact_id", "orchestrator", "CRMs, external executors", _retention(30)),
)
COMPRESSED = frozenset(topic.name for topic in TOPICS if topic.compressed)
