"""The tracking API: a small ASGI application, since one request per event is the hot path.

Responses are those that SDKs need: 200 with `{"success":true}`, never a redirect; errors are JSON
with `code` and `message`; back-pressure is 503 with Retry-After, never a 4xx, on which an SDK would
drop the batch.
"""

from collections.abc import Awaitable, Callable
from functools import partial

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from libs.common.errors import InvalidMessage
from libs.common.http import cors
from libs.common.http.write_keys import extract_write_key
from services.ingest.api import openapi, pixel, responses, sdk_settings
from services.ingest.api.byte_budget import UNSIZED_BODY_BYTES, ByteBudget, Reservation
from services.ingest.api.http_request import Headers, HttpRequest, request_from_scope
from services.ingest.api.responses import HttpResponse
from services.ingest.api.routes import METHODS, POST_ONLY, match_route
from services.ingest.domain import json_body
from services.ingest.domain.source import Source
from services.ingest.handlers.ingestion import IngestService, TrackingRequest
from services.ingest.tracker.script import TrackerScripts

_MAX_LENGTH_DIGITS = 12
BodyReader = Callable[[Reservation], Awaitable[bytes]]
"""Reads a request's body as received, within its reservation."""


class TrackingApi:
    """Serves the SDKs' paths; everything else goes to `rest`."""

    def __init__(self, ingestion: IngestService, tracker: TrackerScripts, rest: ASGIApp) -> None:
        self._ingestion = ingestion
        self._tracker = tracker
        self._rest = rest
        self._budget, self._unsized_budget = ByteBudget(), ByteBudget(UNSIZED_BODY_BYTES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        route = match_route(scope["path"]) if scope["type"] == "http" else None
        if route is None:
            await self._rest(scope, receive, send)
            return
        request = request_from_scope(route, scope)
        response = await self.respond(request, partial(_read_body, receive, request.headers))
        await _send(send, response, head=request.method == "HEAD")

    async def respond(self, request: HttpRequest, read: BodyReader) -> HttpResponse:
        """Return the response to a request.

        Its headers lack the content length, and the content type where it is JSON.
        """
        if request.method == "OPTIONS":
            return HttpResponse(204, b"", cors.preflight_headers(request.headers))
        try:
            response = await self._respond(request, read)
        except responses.EXPECTED_ERRORS as error:
            response = responses.response_for_error(error)
        cors_headers = cors.cors_headers(request.headers)
        if not cors_headers or request.route.kind == "tracker":
            return response
        status, content, headers = response
        return HttpResponse(status, content, [*headers, *cors_headers])

    def admit(self, headers: Headers, size: int) -> tuple[Source, Reservation] | None:
        """Return the source of the key in the headers, and a reservation of `size` bytes.

        None when the key is unknown or the budget is spent.
        """
        key = extract_write_key(headers, b"")
        reservation = Reservation(self._budget)
        try:
            source = self._ingestion.authenticate(key)
            reservation.reserve(size)
        except responses.EXPECTED_ERRORS:
            return None
        return source, reservation

    async def _respond(self, request: HttpRequest, read: BodyReader) -> HttpResponse:
        route = request.route
        methods = METHODS[route.kind]
        if request.method not in methods:
            allow = ", ".join(methods)
            return responses.error_response(
                405, "method_not_allowed", f"{allow} only", [(b"allow", allow.encode())]
            )
        source = request.source
        if source is None:
            key = route.key or extract_write_key(request.headers, request.query)
            # Authenticated before the body is read.
            source = None if key is None else self._ingestion.authenticate(key)
            if methods is not POST_ONLY:
                return await self._respond_to_get(request, key, source)
        budget = self._budget if source else self._unsized_budget
        with request.reservation or Reservation(budget) as reservation:
            plain = _decompress(await read(reservation), request.headers, reservation)
            if route.kind == "hook":
                await self._ingestion.ingest_webhook(request.to_webhook_request(plain), source)
            elif route.kind != "ignored":
                tracking_request = TrackingRequest(
                    plain,
                    source,
                    route.call_type,
                    request.origin(),
                    request.client_address(),
                    request.traceparent(),
                )
                await self._ingestion.ingest_request(tracking_request)
        return responses.SUCCESS

    async def _respond_to_get(
        self, request: HttpRequest, key: str | None, source: Source | None
    ) -> HttpResponse:
        match request.route.kind:
            case "project_settings":
                return responses.settings_document(
                    sdk_settings.project_settings(key or "", *request.own_address())
                )
            case "openapi":
                return responses.settings_document(openapi.build_openapi_document())
            case "source_config":
                return responses.settings_document(
                    sdk_settings.source_config(
                        key or "", source or self._ingestion.authenticate(key)
                    )
                )
            case "tracker":
                return self._respond_with_script(request.route.file, request.headers)
            case _:
                return await self._respond_with_pixel(request, source)

    def _respond_with_script(self, file: str, headers: Headers) -> HttpResponse:
        script = self._tracker.get(file)
        accepts_gzip = b"gzip" in headers.get(b"accept-encoding", b"")
        encoding = [(b"content-encoding", b"gzip")] if accepts_gzip else []
        return HttpResponse(
            200,
            script.compressed if accepts_gzip else script.content,
            [
                (b"content-type", b"text/javascript; charset=utf-8"),
                (b"vary", b"Accept-Encoding"),
                *encoding,
                # The same for pages of every origin, so that shared caches can keep it.
                (b"access-control-allow-origin", b"*"),
                (b"cache-control", b"public, max-age=%d" % script.max_age_seconds),
                (b"x-content-type-options", b"nosniff"),
            ],
        )

    async def _respond_with_pixel(
        self, request: HttpRequest, source: Source | None
    ) -> HttpResponse:
        tracking_request = pixel.pixel_request(
            request.headers, request.query, request.client_address(), source
        )
        if tracking_request is not None:
            await self._ingestion.ingest_request(tracking_request)
        headers = [(b"content-type", b"image/gif"), (b"cache-control", b"no-store")]
        return HttpResponse(200, pixel.GIF, headers)


async def _read_body(receive: Receive, headers: Headers, reservation: Reservation) -> bytes:
    """Return the complete body, reserved chunk by chunk.

    Raises BodyTooLarge, Unavailable, and InvalidMessage when the client disconnects.
    """
    size = headers.get(b"content-length", b"")
    if size.isdigit() and (len(size) > _MAX_LENGTH_DIGITS or int(size) > json_body.MAX_BODY):
        raise _too_large()
    chunks = []
    more = True
    while more:  # the protocol class limits the time
        event = await receive()
        chunks.append(_chunk(event))
        reservation.reserve(len(chunks[-1]))
        if reservation.bytes > json_body.MAX_BODY:
            raise _too_large()
        more = event.get("more_body", False)
    return b"".join(chunks)


def _decompress(raw: bytes, headers: Headers, reservation: Reservation) -> bytes:
    encoding = headers.get(b"content-encoding")
    if encoding is None:
        return raw
    plain = json_body.decompress(raw, encoding.decode("latin-1").strip().lower())
    if plain is not raw:
        reservation.reserve(len(plain))
    return plain


def _too_large() -> json_body.BodyTooLarge:
    return json_body.BodyTooLarge("too_large", f"the body has more than {json_body.MAX_BODY} bytes")


def _chunk(event: Message) -> bytes:
    if event["type"] == "http.disconnect":
        raise InvalidMessage("cut_off", "the client disconnected")
    chunk: bytes = event.get("body", b"")
    return chunk


async def _send(send: Send, response: HttpResponse, *, head: bool = False) -> None:
    status, content, _ = response
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": responses.response_headers(response),
        }
    )
    await send({"type": "http.response.body", "body": b"" if head else content})
