"""Buffered requests: small tracking calls answered by the protocol, without ASGI.

ASGI starts the application at the end of a request's headers, and passes body and response in
messages. A tracking call is small, so its body is buffered first, and one task writes the whole
response at once. The same `TrackingApi` responds; larger, incomplete and pipelined requests go
through ASGI (ADR 23, 28).
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
"""Size of a buffered body; of larger bodies uvicorn reads as much as the application does."""
_DIGITS = len(str(MAX_BUFFERED_BYTES))
_FAULT = HttpResponse(
    500,
    b"Internal Server Error",
    [(b"content-type", b"text/plain; charset=utf-8")],
)


class BufferedExchange:
    """A buffered request, with the attributes that uvicorn's protocol uses of a request cycle."""

    __slots__ = (
        "chunks",
        "disconnected",
        "keep_alive",
        "request",
        "response_complete",
        "started",
    )
    response_started = False
    message_event = types.SimpleNamespace(set=lambda: None)  # without waiters

    def __init__(self, request: HttpRequest, *, keep_alive: bool) -> None:
        self.request, self.keep_alive = request, keep_alive
        self.chunks: list[bytes] = []
        self.started = self.disconnected = self.response_complete = False

    async def read(self, _: Reservation) -> bytes:
        """Return the body, which is complete and reserved already."""
        body = b"".join(self.chunks)
        self.chunks.clear()
        return body


class BufferedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with buffered requests; a mix-in of IngestProtocol."""

    def __init__(self, api: TrackingApi, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._api = api

    def on_message_begin(self) -> None:
        """Start a request; its ASGI scope is built only if it goes through ASGI."""
        self.url, self.headers = b"", []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store a header."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Decide between buffering and ASGI."""
        exchange: Any = self._new_exchange()
        if exchange is None:
            self._start_asgi()
        else:
            self.cycle = exchange

    def on_body(self, body: bytes) -> None:
        """Receive a part of the body."""
        exchange: Any = self.cycle
        if isinstance(exchange, BufferedExchange):
            exchange.chunks.append(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Start the response of a buffered request."""
        exchange: Any = self.cycle
        if not isinstance(exchange, BufferedExchange):
            super().on_message_complete()
            return
        exchange.started = True
        task = self.loop.create_task(self._respond(exchange))
        self.tasks.add(task)  # shutdown waits for these
        task.add_done_callback(self.tasks.discard)

    def connection_lost(self, exc: Exception | None) -> None:
        """Release the reservation of an incomplete request."""
        exchange: Any = self.cycle
        if (
            isinstance(exchange, BufferedExchange)
            and not exchange.started
            and exchange.request.reservation is not None
        ):
            exchange.request.reservation.release()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Shut down; an incomplete buffered request gets no response."""
        exchange: Any = self.cycle
        if isinstance(exchange, BufferedExchange) and not exchange.started:
            self.transport.close()
        else:
            super().shutdown()

    def _new_exchange(self) -> BufferedExchange | None:
        """Return the exchange of a request that can be buffered, else None.

        Such a request is small, first on its connection, has a known key, and fits the byte budget.
        """
        route = BUFFERED_ROUTES.get(self.url)
        if route is None or not self._is_first():
            return None
        headers = dict(self.headers)
        size, parser = headers.get(b"content-length", b""), self.parser
        is_plain_post = (
            parser.get_method() == b"POST"
            and parser.get_http_version() == "1.1"
            and not parser.should_upgrade()
        )
        if (
            not (is_plain_post and 0 < len(size) <= _DIGITS)
            or int(size) > MAX_BUFFERED_BYTES
            or b"expect" in headers
        ):
            return None
        admitted = self._api.admit(headers, int(size))
        if admitted is None:
            return None
        client = self.client[0] if self.client else ""
        request = HttpRequest(
            route, headers, "POST", self.url, b"", client, self.scheme or "http", *admitted
        )
        return BufferedExchange(request, keep_alive=parser.should_keep_alive())

    def _start_asgi(self) -> None:
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url = url
        for name, value in headers:
            super().on_header(name, value)
        super().on_headers_complete()

    def _is_first(self) -> bool:
        """Return whether no request is pending on the connection, within uvicorn's limit."""
        limit = self.limit_concurrency
        is_free = self.cycle is None or self.cycle.response_complete
        return is_free and (
            limit is None or (len(self.connections) < limit and len(self.tasks) < limit)
        )

    async def _respond(self, exchange: BufferedExchange) -> None:
        try:
            response = await self._api.respond(exchange.request, exchange.read)
            if self.flow.write_paused:
                await self.flow.drain()
        except BaseException:  # as uvicorn does: also at a shutdown the client gets a response
            self.logger.exception("Exception in the tracking API")
            response, exchange.keep_alive = _FAULT, False
        exchange.response_complete = True
        if not self.transport.is_closing():
            self.transport.write(self._encode(response, keep_alive=exchange.keep_alive))
            if not exchange.keep_alive:
                self.transport.close()
        self.on_response_complete()

    def _encode(self, response: HttpResponse, *, keep_alive: bool) -> bytes:
        default_headers = tuple(self.server_state.default_headers)
        if response is responses.SUCCESS and keep_alive:
            return _encode_success(default_headers)
        closing = [] if keep_alive else [(b"connection", b"close")]
        headers = [*default_headers, *responses.response_headers(response), *closing]
        return _encode_response(headers, response)


@lru_cache(maxsize=2)
def _encode_success(default_headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """Return the most frequent response; it is the same until the date header changes."""
    headers = [*default_headers, *responses.response_headers(responses.SUCCESS)]
    return _encode_response(headers, responses.SUCCESS)


def _encode_response(headers: HeaderList, response: HttpResponse) -> bytes:
    """Encode a response in HTTP/1.1."""
    lines = [b"%b: %b\r\n" % header for header in headers]
    return b"".join((STATUS_LINE[response.status], *lines, b"\r\n", response.content))
