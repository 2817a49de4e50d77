"""Division of polled records into transaction batches."""

from collections.abc import Iterable
from typing import Any

MAX_BATCH = 10_000
"""Batch size for a backlog; larger batches cost less per touchpoint of a contact."""
BATCH_PER_MS = 1
"""Records per ms of the session time-out: a slow machine still sends heartbeats in time."""
MIN_BATCH = 2_000
"""Few records of many partitions share a batch, since each transaction has a fixed cost."""


def combine_batches(waiting: Iterable[list[Any]]) -> list[list[Any]]:
    """Combine the partitions' records into batches of up to MIN_BATCH; larger lists stay alone."""
    batches: list[list[Any]] = []
    for records in waiting:
        if batches and len(batches[-1]) + len(records) <= MIN_BATCH:
            batches[-1] += records
        else:
            batches.append(list(records))
    return batches


def max_batch_size(session_timeout_ms: int) -> int:
    """Return the largest batch size for a group's session time-out."""
    return min(MAX_BATCH, session_timeout_ms * BATCH_PER_MS)
