"""Global budget of request bytes in flight; requests beyond it get 503."""

from typing import Self

from libs.common.errors import Unavailable

BUDGET_BYTES = 64 * 1024 * 1024
"""Bytes of all bodies that are being read, decompressed or wait for Kafka."""
UNSIZED_BODY_BYTES = 16 * 1024 * 1024
"""The same for requests with the write key in their body, unauthenticated until it is read."""


class Reservation:
    """The bytes that one request has reserved; released when it is answered."""

    __slots__ = ("_budget", "bytes")

    def __init__(self, budget: "ByteBudget") -> None:
        self._budget = budget
        self.bytes = 0

    def __enter__(self) -> Self:
        """Return the empty reservation."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release all: the request is answered."""
        self.release()

    def release(self) -> None:
        """Return all reserved bytes to the budget."""
        self._budget.release(self.bytes)
        self.bytes = 0

    def reserve(self, size: int) -> None:
        """Reserve more bytes. Raises Unavailable when the budget is spent."""
        self._budget.reserve(size)
        self.bytes += size


class ByteBudget:
    """Limit of the bytes in flight, so that a slow Kafka does not exhaust memory."""

    def __init__(self, limit: int = BUDGET_BYTES) -> None:
        self._available = limit

    def release(self, size: int) -> None:
        """Return the bytes of an answered request."""
        self._available += size

    def reserve(self, size: int) -> None:
        """Take bytes. Raises Unavailable when fewer are available."""
        if size > self._available:
            raise Unavailable("too many requests at once")
        self._available -= size
