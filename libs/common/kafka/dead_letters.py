"""A record that cannot be processed, kept whole where it can be looked at and sent again."""

from libs.common.errors import InvalidMessage, TooManyDeadLetters
from libs.common.kafka.record import Record
from libs.common.messages import Message

MAX_CONSECUTIVE = 200


def build_dead_letter(service: str, record: Record, error: Exception) -> Message:
    """Return the dead letter: the original key, value and headers, and beside them what failed and where."""
    reason = error.reason if isinstance(error, InvalidMessage) else type(error).__name__
    about = {
        "x-dlq-reason": reason,
        "x-dlq-error": str(error)[:500]
        if isinstance(error, InvalidMessage)
        else type(error).__name__,
        "x-dlq-topic": record.topic,
        "x-dlq-partition": str(record.partition),
        "x-dlq-offset": str(record.offset),
        "x-dlq-service": service,
    }
    original = [
        (name, value or b"") for name, value in record.headers
    ]  # a null header is legal in Kafka
    headers = [
        *original,
        *((name, text.encode("utf-8", "replace")) for name, text in about.items()),
    ]
    return Message(f"{service}-dlq", record.key or b"none", record.value, headers)


class ConsecutiveCounter:
    """Counts dead letters in a row: a run of them is more likely our fault than the senders'."""

    def __init__(self) -> None:
        self._count = 0

    def add_batch(self, bad: int, of: int, first: Record) -> None:
        """Take in a batch of which so many were bad. Raises TooManyDeadLetters when the run is too long."""
        self._count = self._count + bad if bad == of else 0
        if self._count > MAX_CONSECUTIVE:
            raise TooManyDeadLetters(
                f"{self._count} records in a row of {first.topic}-{first.partition} up to offset {first.offset} could not "
                "be processed: look at the dead letters, mend the cause, start again"
            )
