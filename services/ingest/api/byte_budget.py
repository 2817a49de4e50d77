"""What all requests may hold together: beyond, the door says so at once."""

from typing import Self

from libs.common.errors import Unavailable

BUDGET_BYTES = 64 * 1024 * 1024
"""Of bodies that are read, unpacked or wait for Kafka, in all requests together."""
UNSIZED_BODY_BYTES = 16 * 1024 * 1024
"""The same, of requests whose key stands in their body: until that is read anybody may have sent them."""


class Reservation:
    """What one request holds of the room."""

    __slots__ = ("_room", "bytes")

    def __init__(self, room: "ByteBudget") -> None:
        self._room = room
        self.bytes = 0

    def __enter__(self) -> Self:
        """Begin with nothing."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give all back: the request is answered."""
        self.release()

    def release(self) -> None:
        """Hold nothing any more."""
        self._room.release(self.bytes)
        self.bytes = 0

    def reserve(self, size: int) -> None:
        """Hold more. Raises Unavailable when there is no room."""
        self._room.reserve(size)
        self.bytes += size


class ByteBudget:
    """The bytes that all requests may hold together, so that a slow Kafka fills no memory."""

    def __init__(self, limit: int = BUDGET_BYTES) -> None:
        self._left = limit

    def release(self, size: int) -> None:
        """Take back what an answered request held."""
        self._left += size

    def reserve(self, size: int) -> None:
        """Take from the room. Raises Unavailable."""
        if size > self._left:
            raise Unavailable("too many requests at once")
        self._left -= size
