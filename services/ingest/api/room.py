"""What all requests may hold together: beyond, the door says so at once."""

from typing import Self

from libs.common.errors import Unavailable

HELD_BYTES = 64 * 1024 * 1024
"""Of bodies that are read, unpacked or wait for Kafka, in all requests together."""
UNKNOWN_BYTES = 16 * 1024 * 1024
"""The same, of requests whose key stands in their body: until that is read anybody may have sent them."""


class Held:
    """What one request holds of the room."""

    __slots__ = ("_room", "bytes")

    def __init__(self, room: "Room") -> None:
        self._room = room
        self.bytes = 0

    def __enter__(self) -> Self:
        """Begin with nothing."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give all back: the request is answered."""
        self.give_back()

    def give_back(self) -> None:
        """Hold nothing any more."""
        self._room.give_back(self.bytes)
        self.bytes = 0

    def add(self, size: int) -> None:
        """Hold more. Raises Unavailable when there is no room."""
        self._room.take(size)
        self.bytes += size


class Room:
    """The bytes that all requests may hold together, so that a slow Kafka fills no memory."""

    def __init__(self, limit: int = HELD_BYTES) -> None:
        self._left = limit

    def give_back(self, size: int) -> None:
        """Take back what an answered request held."""
        self._left += size

    def take(self, size: int) -> None:
        """Take from the room. Raises Unavailable."""
        if size > self._left:
            raise Unavailable("too many requests at once")
        self._left -= size
