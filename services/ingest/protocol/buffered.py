"""Calls that come whole are answered without ASGI, which takes as long as all that the door does with an event.

ASGI starts an application when a request's headers are here, hands it the body and takes its answer by messages. A call is small:
its body is here with its headers or a moment later. So it is gathered first, and answered by one task, whose answer is written at
once. It is the same `TrackingApi` that answers; what is not small, whole and first in line goes uvicorn's way (ADR 23).
"""

import types
from functools import lru_cache
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from libs.common.http.cors import HeaderList
from services.ingest.api import responses
from services.ingest.api.byte_budget import Reservation
from services.ingest.api.http_request import HttpRequest
from services.ingest.api.responses import HttpResponse
from services.ingest.api.routes import BUFFERED_ROUTES
from services.ingest.api.tracking import TrackingApi

MAX_BUFFERED_BYTES = 65_536
"""Bytes of a body that is gathered first: beyond, uvicorn reads on only when the application does."""
_DIGITS = len(str(MAX_BUFFERED_BYTES))
_FAULT: HttpResponse = (
    500,
    b"Internal Server Error",
    [(b"content-type", b"text/plain; charset=utf-8")],
)


class BufferedExchange:
    """A request and its answer, with what uvicorn's protocol asks of one of its own."""

    __slots__ = ("asked", "begun", "chunks", "disconnected", "keep_alive", "response_complete")
    response_started = False
    message_event = types.SimpleNamespace(set=lambda: None)  # nobody waits for it

    def __init__(self, asked: HttpRequest, *, keep_alive: bool) -> None:
        self.asked, self.keep_alive = asked, keep_alive
        self.chunks: list[bytes] = []
        self.begun = self.disconnected = self.response_complete = False

    async def read(self, _: Reservation) -> bytes:
        """Return the body, which is here and is held already."""
        found = b"".join(self.chunks)
        self.chunks.clear()
        return found


class BufferedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a shorter way for calls; subclassed beside what else a protocol is to do."""

    def __init__(self, api: TrackingApi, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._api = api

    def on_message_begin(self) -> None:
        """Take up a request; what ASGI would be told of it is put together if it goes that way."""
        self.url, self.headers = b"", []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Begin a turn of ours, if that is what comes."""
        turn: Any = self._turn()
        if turn is None:
            self._go_by_asgi()
        else:
            self.cycle = turn

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        turn: Any = self.cycle
        if isinstance(turn, BufferedExchange):
            turn.chunks.append(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Answer, if it is a turn of ours."""
        turn: Any = self.cycle
        if not isinstance(turn, BufferedExchange):
            super().on_message_complete()
            return
        turn.begun = True
        task = self.loop.create_task(self._answer(turn))
        self.tasks.add(task)  # those that a stop waits for
        task.add_done_callback(self.tasks.discard)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give back what a call holds that will never be here as a whole."""
        turn: Any = self.cycle
        if (
            isinstance(turn, BufferedExchange)
            and not turn.begun
            and turn.asked.reservation is not None
        ):
            turn.asked.reservation.release()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Begin to stop: nobody is told anything of half a call."""
        turn: Any = self.cycle
        if isinstance(turn, BufferedExchange) and not turn.begun:
            self.transport.close()
        else:
            super().shutdown()

    def _turn(self) -> BufferedExchange | None:
        """Return the turn of a request that is small, first on its connection and whose key is known, if there is room for it."""
        found = BUFFERED_ROUTES.get(self.url)
        if found is None or not self._is_first():
            return None
        headers = dict(self.headers)
        size, parser = headers.get(b"content-length", b""), self.parser
        plain = (
            parser.get_method() == b"POST"
            and parser.get_http_version() == "1.1"
            and not parser.should_upgrade()
        )
        if (
            not (plain and 0 < len(size) <= _DIGITS)
            or int(size) > MAX_BUFFERED_BYTES
            or b"expect" in headers
        ):
            return None
        admitted = self._api.admit(headers, int(size))
        if admitted is None:
            return None
        client = self.client[0] if self.client else ""
        asked = HttpRequest(
            found, headers, "POST", self.url, b"", client, self.scheme or "http", *admitted
        )
        return BufferedExchange(asked, keep_alive=parser.should_keep_alive())

    def _go_by_asgi(self) -> None:
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url = url
        for name, value in headers:
            super().on_header(name, value)
        super().on_headers_complete()

    def _is_first(self) -> bool:
        """Return whether nothing is under way before it on this connection, and not too much on all: uvicorn refuses that."""
        most = self.limit_concurrency
        free = self.cycle is None or self.cycle.response_complete
        return free and (most is None or (len(self.connections) < most and len(self.tasks) < most))

    async def _answer(self, turn: BufferedExchange) -> None:
        try:
            answer = await self._api.respond(turn.asked, turn.read)
            if self.flow.write_paused:
                await self.flow.drain()
        except BaseException:  # as uvicorn does: whoever asked gets an answer, at a stop too
            self.logger.exception("Exception in the tracking API")
            answer, turn.keep_alive = _FAULT, False
        turn.response_complete = True
        if not self.transport.is_closing():
            self.transport.write(self._written(answer, keep_alive=turn.keep_alive))
            if not turn.keep_alive:
                self.transport.close()
        self.on_response_complete()

    def _written(self, answer: HttpResponse, *, keep_alive: bool) -> bytes:
        always = tuple(self.server_state.default_headers)
        if answer is responses.SUCCESS and keep_alive:
            return _success(always)
        closing = [] if keep_alive else [(b"connection", b"close")]
        return _http([*always, *responses.response_headers(answer), *closing], answer)


@lru_cache(maxsize=2)
def _success(always: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """Return the answer that most get, which is the same for a second: until its date is another one."""
    return _http([*always, *responses.response_headers(responses.SUCCESS)], responses.SUCCESS)


def _http(headers: HeaderList, answer: HttpResponse) -> bytes:
    """Return an answer as HTTP/1.1 writes it."""
    lines = [b"%b: %b\r\n" % header for header in headers]
    return b"".join((STATUS_LINE[answer[0]], *lines, b"\r\n", answer[1]))
