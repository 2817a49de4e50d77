"""A record that cannot be processed, kept whole where it can be looked at and sent again."""

from libs.common.errors import InvalidMessage
from libs.common.kafka.record import Record
from libs.common.messages import Message


def dead_letter(service: str, record: Record, error: Exception) -> Message:
    """Return the dead letter: the original key, value and headers, and beside them what failed and where."""
    reason = error.reason if isinstance(error, InvalidMessage) else type(error).__name__
    about = {
        "x-dlq-reason": reason,
        "x-dlq-error": str(error)[:500] if isinstance(error, InvalidMessage) else type(error).__name__,
        "x-dlq-topic": record.topic,
        "x-dlq-partition": str(record.partition),
        "x-dlq-offset": str(record.offset),
        "x-dlq-service": service,
    }
    original = [(name, value or b"") for name, value in record.headers]  # a null header is legal in Kafka
    headers = [*original, *((name, text.encode("utf-8", "replace")) for name, text in about.items())]
    return Message(f"{service}-dlq", record.key or b"none", record.value, headers)
