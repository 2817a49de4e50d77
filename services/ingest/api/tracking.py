"""The tracking API: a small ASGI application, since one request per event is the hot path.

Answers are what the SDKs need: 200 with `{"success":true}`, never a redirect; errors are JSON with `code` and
`message`; back-pressure is 503 with Retry-After, never a 4xx, which would make an SDK throw the batch away.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from libs.common.errors import InvalidMessage, NotFound, Unavailable
from services.ingest.api import cors, documents, pixel
from services.ingest.api.cors import Extra
from services.ingest.api.keys import write_key
from services.ingest.api.routes import METHODS, Route, route
from services.ingest.domain import body
from services.ingest.handlers.door import Door, Request, StrangeOrigin, TooFast, UnknownKey
from services.ingest.tracker.script import Tracker

READ_SECONDS = 10
Headers = Mapping[bytes, bytes]
Answer = tuple[int, bytes, Extra]
_SUCCESS: Answer = (200, b'{"success":true}', [])
_encode = msgspec.json.Encoder().encode


class TrackingApi:
    """Serves the SDKs' paths; everything else goes to `rest`."""

    def __init__(self, door: Door, tracker: Tracker, rest: ASGIApp) -> None:
        self._door = door
        self._tracker = tracker
        self._rest = rest

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
        await _send(send, answer, cors.allowed(headers), head=scope["method"] == "HEAD")

    async def _answer(self, found: Route, headers: Headers, scope: Scope, receive: Receive) -> Answer:
        if scope["method"] not in METHODS[found.kind]:
            allow = ", ".join(METHODS[found.kind])
            return _error(405, "method_not_allowed", f"{allow} only", [(b"allow", allow.encode())])
        try:
            return await self._take(found, headers, scope, receive)
        except body.TooLarge as error:
            return _error(413, error.reason, error.detail)
        except InvalidMessage as error:
            return _error(400, error.reason, error.detail)
        except UnknownKey:
            return _error(401, "unknown_write_key", "no source has this write key")
        except StrangeOrigin:
            return _error(403, "origin_not_allowed", "this source takes nothing from pages of this origin")
        except TooFast as error:
            wait = [(b"retry-after", b"%d" % error.seconds)]
            return _error(429, "too_fast", f"the source sends faster than it may: again in {error.seconds} s", wait)
        except TimeoutError:
            return _error(408, "slow_body", f"the body did not arrive within {READ_SECONDS} s")
        except Unavailable as error:
            return _error(503, "unavailable", f"not stored, please send again: {error}", [(b"retry-after", b"1")])
        except NotFound as error:
            return _error(404, "not_found", str(error))

    async def _take(self, found: Route, headers: Headers, scope: Scope, receive: Receive) -> Answer:
        key = write_key(headers, scope.get("query_string", b""))
        match found.kind:
            case "project_settings":
                key = found.key or ""
                self._door.source(key)
                return _json(documents.project_settings(key, *_address(headers, scope)))
            case "source_config":
                return _json(documents.source_config(key or "", self._door.source(key)))
            case "tracker":
                return self._script(found.file, headers)
            case "pixel":
                return await self._pixel(headers, scope)
            case "ignored":
                await asyncio.wait_for(_read(receive), READ_SECONDS)
            case _:
                raw = await asyncio.wait_for(_read(receive), READ_SECONDS)
                encoding = headers.get(b"content-encoding", b"").decode("latin-1").strip().lower()
                origin = headers[b"origin"].decode("latin-1").lower() if b"origin" in headers else None
                plain, client = body.unpack(raw, encoding), _client(headers, scope)
                await self._door.accept(Request(plain, key, found.call_type, origin, client))
        return _SUCCESS

    def _script(self, file: str, headers: Headers) -> Answer:
        script = self._tracker.script(file)
        zipped = b"gzip" in headers.get(b"accept-encoding", b"")
        encoding = [(b"content-encoding", b"gzip")] if zipped else []
        about = [(b"content-type", b"text/javascript; charset=utf-8"), (b"vary", b"Accept-Encoding"), *encoding]
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


def _client(headers: Headers, scope: Scope) -> str:
    """Return the client's address, as a proxy in front of us says it, else the connection's."""
    forwarded = headers.get(b"x-forwarded-for", b"").decode("latin-1").partition(",")[0].strip()
    return forwarded or (scope.get("client") or ("",))[0]


async def _read(receive: Receive) -> bytes:
    chunks, size = [], 0
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise InvalidMessage("cut_off", "the client went away")
        chunk = event.get("body", b"")
        size += len(chunk)
        if size > body.MAX_BODY:
            raise body.TooLarge("too_large", f"the body has more than {body.MAX_BODY} bytes")
        chunks.append(chunk)
        if not event.get("more_body"):
            return b"".join(chunks)


async def _send(send: Send, answer: Answer, extra: Extra, *, head: bool = False) -> None:
    status, content, headers = answer
    about = [] if status == 204 else [(b"content-length", b"%d" % len(content))]
    if content and not any(name == b"content-type" for name, _ in headers):
        about.append((b"content-type", b"application/json"))
    await send({"type": "http.response.start", "status": status, "headers": [*about, *headers, *extra]})
    await send({"type": "http.response.body", "body": b"" if head else content})


def _json(document: Any) -> Answer:
    return 200, _encode(document), [(b"cache-control", b"private, max-age=300")]


def _error(status: int, code: str, message: str, extra: Extra | None = None) -> Answer:
    return status, _encode({"code": code, "message": message}), extra or []
