"""The tracking API: a small ASGI application, since one request per event is the hot path.

Answers are what the SDKs need: 200 with `{"success":true}`, never a redirect; errors are JSON with `code` and
`message`; back-pressure is 503 with Retry-After, never a 4xx, which would make an SDK throw the batch away.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from libs.common import cors
from libs.common.cors import Extra
from libs.common.errors import InvalidMessage
from libs.common.observability.tracing import valid
from libs.common.write_keys import write_key
from services.ingest.adapters import Hook
from services.ingest.api import answers, described, documents, pixel
from services.ingest.api.answers import Answer
from services.ingest.api.patience import UNKNOWN_BYTES, Held, Room
from services.ingest.api.routes import METHODS, Route, route
from services.ingest.domain import body
from services.ingest.handlers.door import Door, Request
from services.ingest.tracker.script import Tracker

_DIGITS = 12
Read = Callable[[], Awaitable[bytes]]
Headers = Mapping[bytes, bytes]


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
        headers = dict(scope["headers"])
        if scope["method"] == "OPTIONS":
            await _send(send, (204, b"", []), cors.preflight(headers))
            return
        answer = await self._answer(found, headers, scope, receive)
        extra = [] if found.kind == "tracker" else cors.allowed(headers)
        await _send(send, answer, extra, head=scope["method"] == "HEAD")

    async def _answer(self, found: Route, headers: Headers, scope: Scope, receive: Receive) -> Answer:
        if scope["method"] not in METHODS[found.kind]:
            allow = ", ".join(METHODS[found.kind])
            return answers.error(405, "method_not_allowed", f"{allow} only", [(b"allow", allow.encode())])
        key = found.key or write_key(headers, scope.get("query_string", b""))
        try:
            if key is not None:
                self._door.source(key)  # before anything is read for it
            with Held(self._room if key else self._unknown_room) as held:
                return await self._take(found, headers, scope, key, partial(_read, receive, headers, held))
        except answers.REFUSALS as why:
            return answers.refused(why)

    async def _take(self, found: Route, headers: Headers, scope: Scope, key: str | None, read: Read) -> Answer:
        match found.kind:
            case "project_settings":
                return answers.document(documents.project_settings(key or "", *_address(headers, scope)))
            case "openapi":
                return answers.document(described.document())
            case "source_config":
                return answers.document(documents.source_config(key or "", self._door.source(key)))
            case "tracker":
                return self._script(found.file, headers)
            case "pixel":
                return await self._pixel(headers, scope)
            case "ignored":
                await read()
            case _:
                plain = await read()
                if found.kind == "hook":
                    await self._door.hook(_hook(headers, scope, plain), key)
                else:
                    origin = headers[b"origin"].decode("latin-1").lower() if b"origin" in headers else None
                    trace = valid(headers.get(b"traceparent"))
                    client = _client(headers, scope)
                    await self._door.accept(Request(plain, key, found.call_type, origin, client, trace))
        return answers.SUCCESS

    def _script(self, file: str, headers: Headers) -> Answer:
        script = self._tracker.script(file)
        zipped = b"gzip" in headers.get(b"accept-encoding", b"")
        encoding = [(b"content-encoding", b"gzip")] if zipped else []
        # For pages of any origin, and the same for all: caches keep it for a year.
        about = [(b"content-type", b"text/javascript; charset=utf-8"), (b"vary", b"Accept-Encoding"), *encoding]
        about.append((b"access-control-allow-origin", b"*"))
        caching = (b"cache-control", b"public, max-age=%d" % script.seconds)
        return 200, script.zipped if zipped else script.text, [*about, caching, (b"x-content-type-options", b"nosniff")]

    async def _pixel(self, headers: Headers, scope: Scope) -> Answer:
        found = pixel.request(headers, scope.get("query_string", b""), _client(headers, scope))
        if found is not None:
            await self._door.accept(found)
        return 200, pixel.GIF, [(b"content-type", b"image/gif"), (b"cache-control", b"no-store")]


def _address(headers: Headers, scope: Scope) -> tuple[str, str]:
    """Return (host, protocol) as the client sees them, through a proxy too."""
    host = headers.get(b"x-forwarded-host") or headers.get(b"host", b"localhost")
    protocol = headers.get(b"x-forwarded-proto") or scope.get("scheme", "http").encode()
    return host.decode("latin-1"), "https" if protocol == b"https" else "http"


def _hook(headers: Headers, scope: Scope, plain: bytes) -> Hook:
    host, protocol = _address(headers, scope)
    query = scope.get("query_string", b"").decode("latin-1")
    path = scope.get("raw_path", scope["path"].encode()).decode("latin-1")
    url = f"{protocol}://{host}{path}{'?' if query else ''}{query}"
    return Hook(url, {name.decode("latin-1"): value.decode("latin-1") for name, value in headers.items()}, plain)


def _client(headers: Headers, scope: Scope) -> str:
    """Return the client's address, as a proxy in front of us says it, else the connection's."""
    forwarded = headers.get(b"x-forwarded-for")
    named = forwarded.decode("latin-1").partition(",")[0].strip() if forwarded else ""
    return named or (scope.get("client") or ("",))[0]


async def _read(receive: Receive, headers: Headers, held: Held) -> bytes:
    """Return the whole body, unpacked. Raises TooLarge, Unavailable, InvalidMessage when the client goes."""
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
    encoding = headers.get(b"content-encoding", b"").decode("latin-1").strip().lower()
    raw = b"".join(chunks)
    plain = body.unpack(raw, encoding)
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


async def _send(send: Send, answer: Answer, extra: Extra, *, head: bool = False) -> None:
    status, content, headers = answer
    about = [] if status == 204 else [(b"content-length", b"%d" % len(content))]
    if content and not any(name == b"content-type" for name, _ in headers):
        about.append((b"content-type", b"application/json"))
    await send({"type": "http.response.start", "status": status, "headers": [*about, *headers, *extra]})
    await send({"type": "http.response.body", "body": b"" if head else content})
