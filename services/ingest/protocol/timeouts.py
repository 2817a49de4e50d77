"""Timeouts of requests and connections, and the limit of headers."""

import asyncio
from typing import Any

from services.ingest.protocol.drain import DrainProtocol

REQUEST_SECONDS = 10
MIN_BYTES_PER_SECOND = 20_000
"""Rate of a body that takes longer than REQUEST_SECONDS: a slow phone, or a large file."""
IDLE_SECONDS = 30
UPLOADS = "/admin/v1/imports"
HEADER_BYTES = 64 * 1024
_SLOW = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"connection: close\r\ncontent-length: 0\r\n\r\n"
)


class TimeoutProtocol(DrainProtocol):
    """uvicorn's protocol with a timeout for each request and a limit for its headers.

    The timeout counts from a request's first byte, and starts again whenever enough of its body has
    arrived in time. One timer serves all requests of a connection: when it fires, it checks whether
    the deadline has moved or is gone.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._timer: asyncio.TimerHandle | None = None
        self._fires_at = 0.0
        self._deadline: float | None = None
        """Of the request or the idle connection; None while a response is pending."""
        self._receiving = self._new = False
        self._bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request, as long as for each later one."""
        super().connection_made(transport)
        self._wait(IDLE_SECONDS)

    def data_received(self, data: bytes) -> None:
        """Receive bytes, and count those of a request's headers."""
        self._new = False
        super().data_received(data)
        if self._deadline is None and (self.cycle is None or self.cycle.response_complete):
            self._wait(IDLE_SECONDS)  # its response preceded its last byte
        if (
            not self._headers_complete and not self._new
        ):  # the first bytes may include earlier requests
            self._bytes += len(data)
            if self._bytes > HEADER_BYTES:
                self.close_with_response(_LARGE)

    def on_response_complete(self) -> None:
        """Continue with a pipelined request, or wait for the next one on the same timer."""
        if self.pipeline or self.transport.is_closing():
            super().on_response_complete()
            if self._deadline is not None:
                self._wait(REQUEST_SECONDS)  # reading was paused
            return
        self.server_state.total_requests += 1
        self.flow.resume_reading()
        if self._deadline is None:
            self._wait(IDLE_SECONDS)

    def on_message_begin(self) -> None:
        """Start the timeout of a request, which may be pipelined."""
        self._receiving, self._new, self._bytes = True, True, 0
        self._wait(REQUEST_SECONDS)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Count the bytes of the body from here on."""
        self._bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Receive a part of the body."""
        self._bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the timeout: the request is complete."""
        self._receiving, self._deadline, self._bytes = False, None, 0
        super().on_message_complete()

    def close_with_response(self, answer: bytes = b"") -> None:
        """Close the connection and its timer."""
        self._cancel_timer()
        self._deadline = None
        super().close_with_response(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timer."""
        self._cancel_timer()
        super().connection_lost(exc)

    def _wait(self, seconds: float) -> None:
        self._deadline = self.loop.time() + seconds
        if self._timer is None or self._deadline < self._fires_at:
            self._fire_at(self._deadline)

    def _fire_at(self, when: float) -> None:
        self._cancel_timer()
        self._fires_at = when
        self._timer = self.loop.call_at(when, self._check_deadline)

    def _check_deadline(self) -> None:
        self._timer = None
        if self._deadline is None:
            return
        is_active = self.flow.read_paused or (
            self._headers_complete and self._bytes >= MIN_BYTES_PER_SECOND * REQUEST_SECONDS
        )
        if self.loop.time() < self._deadline:
            self._fire_at(self._deadline)
        elif is_active:  # enough has arrived, or reading is paused
            self._bytes = 0
            self._wait(REQUEST_SECONDS)
        else:
            # Without a request there is no answer: the client could take it for its next request's.
            self.close_with_response(_SLOW if self._receiving else b"")

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
