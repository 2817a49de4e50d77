"""End of connections: pending responses are sent first, within a time limit."""

import asyncio
from collections.abc import Sized
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

WRITE_TIMEOUT_SECONDS = 30
"""Longest time in which a client reads none of its pending response."""
MAX_PIPELINED = 64
"""Pipelined requests that may wait on a connection; libraries and proxies pipeline none."""

_NO_HTTP = (
    b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n"
    b"content-type: text/plain\r\ncontent-length: %d\r\n\r\n%b"
)


class _Flow(FlowControl):
    """Flow control that stays paused while pipelined requests wait.

    uvicorn's own resumes after each response, so that a client could queue requests without limit.
    """

    def __init__(self, transport: asyncio.Transport, pipeline: Sized) -> None:
        super().__init__(transport)
        self._pipeline = pipeline

    def resume_reading(self) -> None:
        """Resume reading, unless pipelined requests wait."""
        if not self._pipeline:
            super().resume_reading()


class DrainProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits for unread responses and for pipelined requests."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._headers_complete = False
        """Whether the headers of the newest request are complete."""
        self._discarding = False
        """Whether received bytes are discarded: unread ones would reset the connection, and the
        client would lose its pending response.
        """
        self._unsent = 0
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start with a flow control that waits for pipelined requests."""
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)

    def data_received(self, data: bytes) -> None:
        """Receive bytes, unless they are discarded."""
        if not self._discarding:
            super().data_received(data)

    def on_message_begin(self) -> None:
        """Start a request."""
        self._headers_complete = False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Continue with the body.

        Raises ConnectionAbortedError, which ends parsing, when too many requests are pipelined.
        """
        self._headers_complete = True
        super().on_headers_complete()
        if len(self.pipeline) > MAX_PIPELINED:
            self.transport.abort()
            raise ConnectionAbortedError

    def on_response_complete(self) -> None:
        """Continue; after the last response, watch that the client reads it."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._watch()

    def close_with_response(self, answer: bytes = b"") -> None:
        """Close the connection with an answer to the newest request.

        A pending response of an earlier request is the last one instead.
        """
        if self.transport.is_closing():
            return
        is_pending = self.cycle is not None and not self.cycle.response_complete
        if is_pending and not self._headers_complete:
            self.cycle.keep_alive = False
            self._discarding = True
            return
        if answer and not (self.pipeline or (is_pending and self.cycle.response_started)):
            self.transport.write(answer)
        self.transport.close()
        self._watch()

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that are not HTTP, unless another response is pending."""
        self.close_with_response(_NO_HTTP % (len(msg), msg.encode()))

    def pause_writing(self) -> None:
        """Watch that the client reads."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """Stop watching: the client reads."""
        super().resume_writing()
        if not self.transport.is_closing():
            self._stop_watching()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timer."""
        self._stop_watching()
        super().connection_lost(exc)

    def _watch(self) -> None:
        self._stop_watching()
        self._unsent = self.transport.get_write_buffer_size()
        self._write_timer = self.loop.call_later(WRITE_TIMEOUT_SECONDS, self._check_progress)

    def _check_progress(self) -> None:
        if self.transport.get_write_buffer_size() < self._unsent:
            self._watch()
        else:
            self.transport.abort()

    def _stop_watching(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _unsupported_upgrade_warning(self) -> None:
        """Log nothing: a request for another protocol is answered by HTTP."""
