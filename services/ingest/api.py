"""The tracking API: a small ASGI application, since one request per event is the hot path.

Answers are what the SDKs need: 200 with `{"success":true}`, never a redirect; errors are JSON with `code` and
`message`; back-pressure is 503 with Retry-After, never a 4xx, which would make an SDK throw the batch away.
"""

import asyncio
import base64
import binascii
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Receive, Scope, Send

from libs.common.errors import InvalidMessage, Unavailable
from services.ingest.domain import body
from services.ingest.domain.normalise import CALL_TYPES
from services.ingest.handlers import Door, Request, UnknownKey

READ_SECONDS = 10
_BATCH_PATHS = frozenset(("batch", "import", "b"))
_SHORT = {name[0]: name for name in CALL_TYPES}
_SUCCESS = b'{"success":true}'


class TrackingApi:
    """Serves `/v1/*`; everything else goes to `rest`."""

    def __init__(self, door: Door, rest: ASGIApp) -> None:
        self._door = door
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        parts = [part for part in scope.get("path", "").split("/") if part]
        if scope["type"] != "http" or len(parts) != 2 or parts[0] != "v1":
            await self._rest(scope, receive, send)
            return
        status, answer, extra = await self._answer(parts[1], scope, receive)
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [
                    (b"content-type", b"application/json"),
                    (b"content-length", b"%d" % len(answer)),
                    *extra,
                ],
            }
        )
        await send({"type": "http.response.body", "body": answer})

    async def _answer(self, name: str, scope: Scope, receive: Receive) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
        call_type = None if name in _BATCH_PATHS else _SHORT.get(name, name)
        if call_type is not None and call_type not in CALL_TYPES:
            return _error(404, "not_found", f"/v1/{name}: no such call")
        if scope["method"] != "POST":
            return _error(405, "method_not_allowed", "POST only")
        try:
            await self._door.accept(await _request(scope, receive, call_type))
        except body.TooLarge as error:
            return _error(413, error.reason, error.detail)
        except InvalidMessage as error:
            return _error(400, error.reason, error.detail)
        except UnknownKey:
            return _error(401, "unknown_write_key", "no source has this write key")
        except TimeoutError:
            return _error(408, "slow_body", f"the body did not arrive within {READ_SECONDS} s")
        except Unavailable as error:
            return _error(503, "unavailable", f"not stored, please send again: {error}", [(b"retry-after", b"1")])
        return 200, _SUCCESS, []


async def _request(scope: Scope, receive: Receive, call_type: str | None) -> Request:
    headers = dict(scope["headers"])
    raw = await asyncio.wait_for(_read(receive), READ_SECONDS)
    encoding = headers.get(b"content-encoding", b"").decode("latin-1").strip().lower()
    key = _basic_key(headers.get(b"authorization", b"")) or _query_key(scope.get("query_string", b""))
    return Request(body.unpack(raw, encoding), key, call_type)


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


def _basic_key(header: bytes) -> str | None:
    scheme, _, value = header.partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        return base64.b64decode(value.strip(), validate=True).decode().partition(":")[0] or None
    except (binascii.Error, UnicodeDecodeError):
        return None


def _query_key(query: bytes) -> str | None:
    return parse_qs(query.decode("latin-1")).get("writeKey", [None])[0] if query else None


def _error(
    status: int, code: str, message: str, extra: list[tuple[bytes, bytes]] | None = None
) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
    import json

    return status, json.dumps({"code": code, "message": message}).encode(), extra or []
