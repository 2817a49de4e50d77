"""The tracking API: a small ASGI application, since one request per event is the hot path.

Answers are what the SDKs need: 200 with `{"success":true}`, never a redirect; errors are JSON with `code` and
`message`; back-pressure is 503 with Retry-After, never a 4xx, which would make an SDK throw the batch away.
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

_DIGITS = 12
BodyReader = Callable[[Reservation], Awaitable[bytes]]
"""Brings a request's whole body as it came, as long as there is room for it."""


class TrackingApi:
    """Serves the SDKs' paths; everything else goes to `rest`."""

    def __init__(self, door: IngestService, tracker: TrackerScripts, rest: ASGIApp) -> None:
        self._door = door
        self._tracker = tracker
        self._rest = rest
        self._room, self._unknown_room = ByteBudget(), ByteBudget(UNSIZED_BODY_BYTES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        found = match_route(scope["path"]) if scope["type"] == "http" else None
        if found is None:
            await self._rest(scope, receive, send)
            return
        asked = request_from_scope(found, scope)
        answer = await self.respond(asked, partial(_gathered, receive, asked.headers))
        await _send(send, answer, head=asked.method == "HEAD")

    async def respond(self, asked: HttpRequest, read: BodyReader) -> HttpResponse:
        """Return the answer to a request, with all headers but that of its length, and of its type where it is JSON."""
        if asked.method == "OPTIONS":
            return 204, b"", cors.preflight_headers(asked.headers)
        try:
            answer = await self._answer(asked, read)
        except responses.EXPECTED_ERRORS as why:
            answer = responses.response_for_error(why)
        extra = cors.cors_headers(asked.headers)
        if not extra or asked.route.kind == "tracker":
            return answer
        status, content, about = answer
        return status, content, [*about, *extra]

    def admit(self, headers: Headers, size: int) -> tuple[Source, Reservation] | None:
        """Return whose key is in the headers, and what a body of so many bytes holds; None where anything speaks against it."""
        key = extract_write_key(headers, b"")
        held = Reservation(self._room)
        try:
            source = self._door.authenticate(key)
            held.reserve(size)
        except responses.EXPECTED_ERRORS:
            return None
        return source, held

    async def _answer(self, asked: HttpRequest, read: BodyReader) -> HttpResponse:
        found = asked.route
        methods = METHODS[found.kind]
        if asked.method not in methods:
            allow = ", ".join(methods)
            return responses.error_response(
                405, "method_not_allowed", f"{allow} only", [(b"allow", allow.encode())]
            )
        source = asked.source
        if source is None:
            key = found.key or extract_write_key(asked.headers, asked.query)
            source = (
                None if key is None else self._door.authenticate(key)
            )  # before anything is read for it
            if methods is not POST_ONLY:
                return await self._shown(asked, key, source)
        with asked.reservation or Reservation(self._room if source else self._unknown_room) as held:
            plain = _unpacked(await read(held), asked.headers, held)
            if found.kind == "hook":
                await self._door.ingest_webhook(asked.to_webhook_request(plain), source)
            elif found.kind != "ignored":
                request = TrackingRequest(
                    plain,
                    source,
                    found.call_type,
                    asked.origin(),
                    asked.client_address(),
                    asked.traceparent(),
                )
                await self._door.ingest_request(request)
        return responses.SUCCESS

    async def _shown(
        self, asked: HttpRequest, key: str | None, source: Source | None
    ) -> HttpResponse:
        match asked.route.kind:
            case "project_settings":
                return responses.settings_document(
                    sdk_settings.project_settings(key or "", *asked.own_address())
                )
            case "openapi":
                return responses.settings_document(openapi.build_openapi_document())
            case "source_config":
                return responses.settings_document(
                    sdk_settings.source_config(key or "", source or self._door.authenticate(key))
                )
            case "tracker":
                return self._script(asked.route.file, asked.headers)
            case _:
                return await self._pixel(asked, source)

    def _script(self, file: str, headers: Headers) -> HttpResponse:
        script = self._tracker.get(file)
        zipped = b"gzip" in headers.get(b"accept-encoding", b"")
        encoding = [(b"content-encoding", b"gzip")] if zipped else []
        # For pages of any origin, and the same for all: caches keep it for a year.
        about = [
            (b"content-type", b"text/javascript; charset=utf-8"),
            (b"vary", b"Accept-Encoding"),
            *encoding,
        ]
        about.append((b"access-control-allow-origin", b"*"))
        caching = (b"cache-control", b"public, max-age=%d" % script.max_age_seconds)
        return (
            200,
            script.compressed if zipped else script.content,
            [*about, caching, (b"x-content-type-options", b"nosniff")],
        )

    async def _pixel(self, asked: HttpRequest, source: Source | None) -> HttpResponse:
        found = pixel.pixel_request(asked.headers, asked.query, asked.client_address(), source)
        if found is not None:
            await self._door.ingest_request(found)
        return 200, pixel.GIF, [(b"content-type", b"image/gif"), (b"cache-control", b"no-store")]


async def _gathered(receive: Receive, headers: Headers, held: Reservation) -> bytes:
    """Return the whole body. Raises BodyTooLarge, Unavailable, InvalidMessage when the client goes."""
    size = headers.get(b"content-length", b"")
    if size.isdigit() and (len(size) > _DIGITS or int(size) > json_body.MAX_BODY):
        raise _too_large()
    chunks = []
    more = True
    while more:  # as long as the protocol waits
        event = await receive()
        chunks.append(_chunk(event))
        held.reserve(len(chunks[-1]))
        if held.bytes > json_body.MAX_BODY:
            raise _too_large()
        more = event.get("more_body", False)
    return b"".join(chunks)


def _unpacked(raw: bytes, headers: Headers, held: Reservation) -> bytes:
    encoding = headers.get(b"content-encoding")
    if encoding is None:
        return raw
    plain = json_body.decompress(raw, encoding.decode("latin-1").strip().lower())
    if plain is not raw:
        held.reserve(len(plain))
    return plain


def _too_large() -> json_body.BodyTooLarge:
    return json_body.BodyTooLarge("too_large", f"the body has more than {json_body.MAX_BODY} bytes")


def _chunk(event: Message) -> bytes:
    if event["type"] == "http.disconnect":
        raise InvalidMessage("cut_off", "the client went away")
    found: bytes = event.get("body", b"")
    return found


async def _send(send: Send, answer: HttpResponse, *, head: bool = False) -> None:
    status, content, _ = answer
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": responses.response_headers(answer),
        }
    )
    await send({"type": "http.response.body", "body": b"" if head else content})
