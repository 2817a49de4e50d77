"""How long the door waits for a client, and how much it holds for all of them: beyond, it says so at once."""

import asyncio
from collections.abc import Sized
from typing import Any, Self

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from libs.common.errors import Unavailable

REQUEST_SECONDS = 10
SLOWEST = 20_000
"""Bytes a second of a body that takes longer: a phone on a bad line, or a large file."""
IDLE_SECONDS = 30
UPLOADS = "/admin/v1/imports"
HEADER_BYTES = 64 * 1024
HELD_BYTES = 64 * 1024 * 1024
"""Of bodies that are read, unpacked or wait for Kafka, in all requests together."""
UNKNOWN_BYTES = 16 * 1024 * 1024
"""The same, of requests whose key stands in their body: until that is read anybody may have sent them."""
_SLOW = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class _Flow(FlowControl):
    """uvicorn's flow control, which reads on whenever a request is answered, and so holds as many behind it as somebody sends."""

    def __init__(self, transport: asyncio.Transport, behind: Sized) -> None:
        super().__init__(transport)
        self._behind = behind

    def resume_reading(self) -> None:
        """Read on, unless requests that were read wait already."""
        if not self._behind:
            super().resume_reading()


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's protocol with an end to how long a request may come, and how large its headers may be.

    The time runs from a request's first byte, and begins anew as often as its body has brought enough in it. One timer serves all
    requests of a connection: when it rings it looks whether there is still something to wait for.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._timer: asyncio.TimerHandle | None = None
        self._rings = 0.0
        self._ends: float | None = None
        """When what is waited for has to be here; None while the client waits for us."""
        self._begun = self._headed = self._new = False
        self._bytes = 0
        self._deaf: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a first request, as long as for another one later."""
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)
        self._wait(IDLE_SECONDS)

    def data_received(self, data: bytes) -> None:
        """Take bytes; those of a request's headers are counted until the headers are complete."""
        self._new = False
        super().data_received(data)
        if self._ends is None and (self.cycle is None or self.cycle.response_complete):
            self._wait(IDLE_SECONDS)  # a request that was answered before it ended has ended
        if not self._headed and not self._new:  # where it began there may have been others before it
            self._bytes += len(data)
            if self._bytes > HEADER_BYTES:
                self._refuse(_LARGE)

    def on_response_complete(self) -> None:
        """Go on with what came meanwhile, or wait for another request: by the one timer, not one for each as uvicorn does."""
        if self.pipeline or self.transport.is_closing():
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        self.flow.resume_reading()
        if self._ends is None:
            self._wait(IDLE_SECONDS)

    def on_message_begin(self) -> None:
        """Begin to wait for the request, be it behind another one in the same bytes."""
        self._begun, self._new, self._headed, self._bytes = True, True, False, 0
        self._wait(REQUEST_SECONDS)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Go on with the body."""
        self._headed, self._bytes = True, 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is here."""
        self._begun, self._ends = False, None
        super().on_message_complete()

    def pause_writing(self) -> None:
        """Let go of a client that takes no answers."""
        super().pause_writing()
        self._deaf = self.loop.call_later(IDLE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """It takes them."""
        super().resume_writing()
        if self._deaf is not None:
            self._deaf.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers."""
        self._stop()
        if self._deaf is not None:
            self._deaf.cancel()
        super().connection_lost(exc)

    def _wait(self, seconds: float) -> None:
        self._ends = self.loop.time() + seconds
        if self._timer is None or self._ends < self._rings:
            self._ring_at(self._ends)

    def _ring_at(self, when: float) -> None:
        self._stop()
        self._rings = when
        self._timer = self.loop.call_at(when, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._ends is None:
            return
        brought = self.flow.read_paused or (self._headed and self._bytes >= SLOWEST * REQUEST_SECONDS)
        if self.loop.time() < self._ends:
            self._ring_at(self._ends)
        elif brought:  # or it is we who do not read on
            self._bytes = 0
            self._wait(REQUEST_SECONDS)
        elif self._begun:
            self._refuse(_SLOW)
        else:
            self.transport.close()  # it asked for nothing: an answer might be taken for that to its next request

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, answer: bytes) -> None:
        self._stop()
        if not self.transport.is_closing():
            if not (self._headed and self.cycle and self.cycle.response_started):
                self.transport.write(answer)
            self.transport.close()


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
        self._room.give_back(self.bytes)

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
