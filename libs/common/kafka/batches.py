"""What is taken in one transaction, of all that a poll gave."""

from collections.abc import Iterable
from typing import Any

TOGETHER = 2_000
"""A transaction costs the same however little it takes, so what trickles in on many partitions is taken in one."""


def batches(waiting: Iterable[list[Any]]) -> list[list[Any]]:
    """Put the partitions' records together until a batch is worth its transaction."""
    found: list[list[Any]] = []
    for records in waiting:
        if found and len(found[-1]) + len(records) <= TOGETHER:
            found[-1] += records
        else:
            found.append(list(records))
    return found
