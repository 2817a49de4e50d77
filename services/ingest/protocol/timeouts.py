"""How long the door waits for a client's request."""

import asyncio
from typing import Any

from services.ingest.protocol.drain import DrainProtocol

REQUEST_SECONDS = 10
MIN_BYTES_PER_SECOND = 20_000
"""Bytes a second of a body that takes longer: a phone on a bad line, or a large file."""
IDLE_SECONDS = 30
UPLOADS = "/admin/v1/imports"
HEADER_BYTES = 64 * 1024
_SLOW = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class TimeoutProtocol(DrainProtocol):
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
        self._begun = self._new = False
        self._bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a first request, as long as for another one later."""
        super().connection_made(transport)
        self._wait(IDLE_SECONDS)

    def data_received(self, data: bytes) -> None:
        """Take bytes; those of a request's headers are counted until the headers are complete."""
        self._new = False
        super().data_received(data)
        if self._ends is None and (self.cycle is None or self.cycle.response_complete):
            self._wait(IDLE_SECONDS)  # a request that was answered before it ended has ended
        if (
            not self._headed and not self._new
        ):  # where it began there may have been others before it
            self._bytes += len(data)
            if self._bytes > HEADER_BYTES:
                self.close_with_response(_LARGE)

    def on_response_complete(self) -> None:
        """Go on with what came meanwhile, or wait for another request: by the one timer, not one for each as uvicorn does."""
        if self.pipeline or self.transport.is_closing():
            super().on_response_complete()
            if self._ends is not None:
                self._wait(REQUEST_SECONDS)  # it was held back
            return
        self.server_state.total_requests += 1
        self.flow.resume_reading()
        if self._ends is None:
            self._wait(IDLE_SECONDS)

    def on_message_begin(self) -> None:
        """Begin to wait for the request, be it behind another one in the same bytes."""
        self._begun, self._new, self._bytes = True, True, 0
        self._wait(REQUEST_SECONDS)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Go on with the body."""
        self._bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is here."""
        self._begun, self._ends, self._bytes = False, None, 0
        super().on_message_complete()

    def close_with_response(self, answer: bytes = b"") -> None:
        """End the connection, and wait for nothing more."""
        self._stop()
        self._ends = None
        super().close_with_response(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer."""
        self._stop()
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
        brought = self.flow.read_paused or (
            self._headed and self._bytes >= MIN_BYTES_PER_SECOND * REQUEST_SECONDS
        )
        if self.loop.time() < self._ends:
            self._ring_at(self._ends)
        elif brought:  # or it is we who do not read on
            self._bytes = 0
            self._wait(REQUEST_SECONDS)
        else:
            self.close_with_response(
                _SLOW if self._begun else b""
            )  # an answer to nothing might be taken for that to its next request

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
