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
from services.ingest.api import answers, described, documents, pixel
from services.ingest.api.answers import Answer
from services.ingest.api.asked import Asked, Headers, of_scope
from services.ingest.api.room import UNKNOWN_BYTES, Held, Room
from services.ingest.api.routes import METHODS, TAKEN, route
from services.ingest.domain import body
from services.ingest.domain.source import Source
from services.ingest.handlers.door import Door, Request
from services.ingest.tracker.script import Tracker

_DIGITS = 12
Read = Callable[[Held], Awaitable[bytes]]
"""Brings a request's whole body as it came, as long as there is room for it."""


class TrackingApi:
    """Serves the SDKs' paths; everything else goes to `rest`."""

    def __init__(self, door: Door, tracker: Tracker, rest: ASGIApp) -> None:
        self._door = door
        self._tracker = tracker
        self._rest = rest
        self._room, self._unknown_room = Room(), Room(UNKNOWN_BYTES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        found = route(scope["path"]) if scope["type"] == "http" else None
        if found is None:
            await self._rest(scope, receive, send)
            return
        asked = of_scope(found, scope)
        answer = await self.answer(asked, partial(_gathered, receive, asked.headers))
        await _send(send, answer, head=asked.method == "HEAD")

    async def answer(self, asked: Asked, read: Read) -> Answer:
        """Return the answer to a request, with all headers but that of its length, and of its type where it is JSON."""
        if asked.method == "OPTIONS":
            return 204, b"", cors.preflight_headers(asked.headers)
        try:
            answer = await self._answer(asked, read)
        except answers.REFUSALS as why:
            answer = answers.refused(why)
        extra = cors.cors_headers(asked.headers)
        if not extra or asked.found.kind == "tracker":
            return answer
        status, content, about = answer
        return status, content, [*about, *extra]

    def admit(self, headers: Headers, size: int) -> tuple[Source, Held] | None:
        """Return whose key is in the headers, and what a body of so many bytes holds; None where anything speaks against it."""
        key = extract_write_key(headers, b"")
        held = Held(self._room)
        try:
            source = self._door.source(key)
            held.add(size)
        except answers.REFUSALS:
            return None
        return source, held

    async def _answer(self, asked: Asked, read: Read) -> Answer:
        found = asked.found
        methods = METHODS[found.kind]
        if asked.method not in methods:
            allow = ", ".join(methods)
            return answers.error(405, "method_not_allowed", f"{allow} only", [(b"allow", allow.encode())])
        source = asked.source
        if source is None:
            key = found.key or extract_write_key(asked.headers, asked.query)
            source = None if key is None else self._door.source(key)  # before anything is read for it
            if methods is not TAKEN:
                return await self._shown(asked, key, source)
        with asked.held or Held(self._room if source else self._unknown_room) as held:
            plain = _unpacked(await read(held), asked.headers, held)
            if found.kind == "hook":
                await self._door.hook(asked.hook(plain), source)
            elif found.kind != "ignored":
                request = Request(plain, source, found.call_type, asked.origin(), asked.who(), asked.trace())
                await self._door.accept(request)
        return answers.SUCCESS

    async def _shown(self, asked: Asked, key: str | None, source: Source | None) -> Answer:
        match asked.found.kind:
            case "project_settings":
                return answers.document(documents.project_settings(key or "", *asked.address()))
            case "openapi":
                return answers.document(described.document())
            case "source_config":
                return answers.document(documents.source_config(key or "", source or self._door.source(key)))
            case "tracker":
                return self._script(asked.found.file, asked.headers)
            case _:
                return await self._pixel(asked, source)

    def _script(self, file: str, headers: Headers) -> Answer:
        script = self._tracker.script(file)
        zipped = b"gzip" in headers.get(b"accept-encoding", b"")
        encoding = [(b"content-encoding", b"gzip")] if zipped else []
        # For pages of any origin, and the same for all: caches keep it for a year.
        about = [(b"content-type", b"text/javascript; charset=utf-8"), (b"vary", b"Accept-Encoding"), *encoding]
        about.append((b"access-control-allow-origin", b"*"))
        caching = (b"cache-control", b"public, max-age=%d" % script.seconds)
        return 200, script.zipped if zipped else script.text, [*about, caching, (b"x-content-type-options", b"nosniff")]

    async def _pixel(self, asked: Asked, source: Source | None) -> Answer:
        found = pixel.request(asked.headers, asked.query, asked.who(), source)
        if found is not None:
            await self._door.accept(found)
        return 200, pixel.GIF, [(b"content-type", b"image/gif"), (b"cache-control", b"no-store")]


async def _gathered(receive: Receive, headers: Headers, held: Held) -> bytes:
    """Return the whole body. Raises TooLarge, Unavailable, InvalidMessage when the client goes."""
    size = headers.get(b"content-length", b"")
    if size.isdigit() and (len(size) > _DIGITS or int(size) > body.MAX_BODY):
        raise _too_large()
    chunks = []
    more = True
    while more:  # as long as the protocol waits
        event = await receive()
        chunks.append(_chunk(event))
        held.add(len(chunks[-1]))
        if held.bytes > body.MAX_BODY:
            raise _too_large()
        more = event.get("more_body", False)
    return b"".join(chunks)


def _unpacked(raw: bytes, headers: Headers, held: Held) -> bytes:
    encoding = headers.get(b"content-encoding")
    if encoding is None:
        return raw
    plain = body.unpack(raw, encoding.decode("latin-1").strip().lower())
    if plain is not raw:
        held.add(len(plain))
    return plain


def _too_large() -> body.TooLarge:
    return body.TooLarge("too_large", f"the body has more than {body.MAX_BODY} bytes")


def _chunk(event: Message) -> bytes:
    if event["type"] == "http.disconnect":
        raise InvalidMessage("cut_off", "the client went away")
    found: bytes = event.get("body", b"")
    return found


async def _send(send: Send, answer: Answer, *, head: bool = False) -> None:
    status, content, _ = answer
    await send({"type": "http.response.start", "status": status, "headers": answers.headers_of(answer)})
    await send({"type": "http.response.body", "body": b"" if head else content})
