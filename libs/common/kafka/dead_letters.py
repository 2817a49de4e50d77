"""Dead letters: records that cannot be processed, stored whole for inspection and replay."""

from libs.common.errors import InvalidMessage, TooManyDeadLetters
from libs.common.kafka.record import Record
from libs.common.messages import Message

MAX_CONSECUTIVE = 200


def build_dead_letter(service: str, record: Record, error: Exception) -> Message:
    """Return the dead letter: the original record with additional headers for error and origin."""
    reason = error.reason if isinstance(error, InvalidMessage) else type(error).__name__
    error_headers = {
        "x-dlq-reason": reason,
        "x-dlq-error": str(error)[:500]
        if isinstance(error, InvalidMessage)
        else type(error).__name__,
        "x-dlq-topic": record.topic,
        "x-dlq-partition": str(record.partition),
        "x-dlq-offset": str(record.offset),
        "x-dlq-service": service,
    }
    # A null header value is legal in Kafka.
    original = [(name, value or b"") for name, value in record.headers]
    headers = [
        *original,
        *((name, text.encode("utf-8", "replace")) for name, text in error_headers.items()),
    ]
    return Message(f"{service}-dlq", record.key or b"none", record.value, headers)


class ConsecutiveCounter:
    """Counter of consecutive dead letters: a long run points to a defect here, not at senders."""

    def __init__(self) -> None:
        self._count = 0

    def add_batch(self, bad: int, of: int, first: Record) -> None:
        """Count `bad` of `of` records. Raises TooManyDeadLetters when the run is too long."""
        self._count = self._count + bad if bad == of else 0
        if self._count > MAX_CONSECUTIVE:
            raise TooManyDeadLetters(
                f"{self._count} consecutive records of {first.topic}-{first.partition} up to "
                f"offset {first.offset} could not be processed: look at the dead letters, "
                "fix the cause, restart"
            )
