"""What is taken in one transaction, of all that a poll gave."""

from collections.abc import Iterable
from typing import Any

MAX_BATCH = 10_000
"""What a backlog is read in. The more touchpoints of a contact one transaction takes, the less each costs."""
BATCH_PER_MS = 1
"""At most so many records per millisecond of the session time-out: however slow the machine, the group hears of us."""
MIN_BATCH = 2_000
"""A transaction costs the same however little it takes, so what trickles in on many partitions is taken in one."""


def combine_batches(waiting: Iterable[list[Any]]) -> list[list[Any]]:
    """Put the partitions' records together until a batch is worth its transaction."""
    found: list[list[Any]] = []
    for records in waiting:
        if found and len(found[-1]) + len(records) <= MIN_BATCH:
            found[-1] += records
        else:
            found.append(list(records))
    return found


def max_batch_size(session_timeout_ms: int) -> int:
    """Return how many records a batch has at most, under a group's session time-out."""
    return min(MAX_BATCH, session_timeout_ms * BATCH_PER_MS)
