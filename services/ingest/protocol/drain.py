"""How the door ends a connection: not before what it owes is sent, and never waiting for a client that does not take it."""

import asyncio
from collections.abc import Sized
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

WRITE_TIMEOUT_SECONDS = 30
"""How long a client may take nothing at all of what is sent to it."""
MAX_PIPELINED = 64
"""Requests that may wait behind another one of the same connection: libraries and proxies send one after the other."""

_NO_HTTP = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n%b"


class _Flow(FlowControl):
    """uvicorn's flow control, which reads on whenever a request is answered, and so holds as many behind it as somebody sends."""

    def __init__(self, transport: asyncio.Transport, behind: Sized) -> None:
        super().__init__(transport)
        self._behind = behind

    def resume_reading(self) -> None:
        """Read on, unless requests that were read wait already."""
        if not self._behind:
            super().resume_reading()


class DrainProtocol(HttpToolsProtocol):
    """uvicorn's protocol with an end to what is owed to a client, and to what it may leave to be done."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._headed = False
        """Whether the headers of the newest request are complete."""
        self._over = False
        """Whether what comes is taken and thrown away: to leave it where it is would cost the client the answer before it."""
        self._unsent = 0
        self._deaf: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, with a flow that waits for what was read."""
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)

    def data_received(self, data: bytes) -> None:
        """Take bytes, as long as they may be a request."""
        if not self._over:
            super().data_received(data)

    def on_message_begin(self) -> None:
        """Take up a request."""
        self._headed = False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Go on with its body. Raises ConnectionAbortedError when too many wait already, which ends the parser's work."""
        self._headed = True
        super().on_headers_complete()
        if len(self.pipeline) > MAX_PIPELINED:
            self.transport.abort()
            raise ConnectionAbortedError

    def on_response_complete(self) -> None:
        """Go on; what was the last answer has to be taken."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._watch()

    def close_with_response(self, answer: bytes = b"") -> None:
        """Close the connection with an answer to the newest request; if an earlier one is still due, that is the last."""
        if self.transport.is_closing():
            return
        due = self.cycle is not None and not self.cycle.response_complete
        if due and not self._headed:
            self.cycle.keep_alive = False
            self._over = True
            return
        if answer and not (self.pipeline or (due and self.cycle.response_started)):
            self.transport.write(answer)
        self.transport.close()
        self._watch()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, unless another answer is due."""
        self.close_with_response(_NO_HTTP % (len(msg), msg.encode()))

    def pause_writing(self) -> None:
        """Watch whether the client takes what is sent."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """It does."""
        super().resume_writing()
        if not self.transport.is_closing():
            self._stop_watching()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer."""
        self._stop_watching()
        super().connection_lost(exc)

    def _watch(self) -> None:
        self._stop_watching()
        self._unsent = self.transport.get_write_buffer_size()
        self._deaf = self.loop.call_later(WRITE_TIMEOUT_SECONDS, self._look_whether_taken)

    def _look_whether_taken(self) -> None:
        if self.transport.get_write_buffer_size() < self._unsent:
            self._watch()
        else:
            self.transport.abort()

    def _stop_watching(self) -> None:
        if self._deaf is not None:
            self._deaf.cancel()
            self._deaf = None

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: whoever asks for another protocol is answered by this one."""
