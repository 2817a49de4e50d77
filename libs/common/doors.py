"""What every door with FastAPI has: keys, and errors as problem details (RFC 9457)."""

import hmac
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Any

import asyncpg
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException as NoRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from libs.common.errors import ConfigurationError, Conflict, NotFound, PerigeeError, Unavailable

_STATUS: dict[type[PerigeeError], int] = {NotFound: 404, Conflict: 409, ConfigurationError: 422, Unavailable: 503}
MOST_BYTES = 2_000_000
_NO_KEY = "this door needs a key: 'Authorization: Bearer <key>'"
_BEARER = {"WWW-Authenticate": "Bearer"}
_SAID = {
    400: "the request cannot be read",
    401: "no key, or a wrong one",
    404: "it is not there",
    409: "it is against what is there",
    413: "the body is too large",
    422: "something in the request is wrong: `errors` says what",
    503: "a server behind this one does not answer: again in a second",
}
_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {"type": "array", "items": {"type": "object"}},
    },
}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {"description": said, "content": {"application/problem+json": {"schema": _PROBLEM}}}
    for code, said in _SAID.items()
}
"""What any route may answer beside its own, for its OpenAPI document."""
_bearer = HTTPBearer(auto_error=False, description="a key as 'Authorization: Bearer KEY'")


def opened_by(*keys: str) -> Callable[[HTTPAuthorizationCredentials | None], Awaitable[None]]:
    """Return a check that lets in who brings one of the keys; an empty key opens nothing."""
    known = [key.encode() for key in keys if key]

    async def _check(given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> None:
        offered = given.credentials.encode() if given is not None else b""
        if not any([hmac.compare_digest(offered, key) for key in known]):  # noqa: C419 - each one, in equal time
            raise HTTPException(401, _NO_KEY, _BEARER)

    return _check


class Gate:
    """Lets no request under a path in without a key, before its body is read; a body has an end, but where files come in."""

    def __init__(self, app: ASGIApp, path: str, key: str, files: str | None = None) -> None:
        self._app, self._path, self._files = app, path, files
        self._expected = f"bearer {key}".encode() if key else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] == "http" and scope["path"].startswith(self._path):
            headers = dict(scope["headers"])
            offered = headers.get(b"authorization", b"")
            offered = offered[:6].lower() + offered[6:]
            if self._expected is None or not hmac.compare_digest(offered, self._expected):
                await _no_key()(scope, receive, send)
                return
            if self._files is None or not scope["path"].startswith(self._files):
                if int(headers.get(b"content-length", b"0")[:15] or b"0") > MOST_BYTES:
                    await _problem("TooLarge", 413, f"a body here has at most {MOST_BYTES:,} bytes", {})(
                        scope, receive, send
                    )
                    return
                receive = partial(_bounded, receive, [MOST_BYTES])
        await self._app(scope, receive, send)


async def _bounded(receive: Receive, left: list[int]) -> Message:
    event = await receive()
    left[0] -= len(event.get("body", b""))
    # What is beyond is as good as gone: the application sees a client that went away.
    return event if left[0] >= 0 else {"type": "http.disconnect"}


def _no_key() -> JSONResponse:
    return _problem("Refused", 401, _NO_KEY, _BEARER)


def tell_problems(app: FastAPI) -> None:
    """Answer every error as `application/problem+json`: type, title, status, detail; `errors` where fields are wrong."""
    app.add_exception_handler(PerigeeError, _of_ours)
    app.add_exception_handler(asyncpg.DataError, _of_data)
    app.add_exception_handler(NoRoute, _of_http)  # of which FastAPI's own is a kind
    app.add_exception_handler(RequestValidationError, _of_fields)


async def _of_ours(_: Request, error: Exception) -> JSONResponse:
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)
    headers = {"Retry-After": "1"} if status == 503 else {}
    return _problem(type(error).__name__, status, str(error), headers)


async def _of_data(_: Request, __: Exception) -> JSONResponse:
    return _problem(
        "InvalidRequest", 422, "the request holds a NUL, a broken character or a number that cannot be stored", {}
    )


async def _of_http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, NoRoute)
    return _problem("Refused", error.status_code, str(error.detail), dict(error.headers or {}))


async def _of_fields(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    faults = [{"field": ".".join(map(str, e["loc"])), "message": e["msg"]} for e in error.errors()]
    said = "; ".join(f"{fault['field']}: {fault['message']}" for fault in faults)
    return _problem("InvalidRequest", 422, said, {}, errors=faults)


def _problem(title: str, status: int, detail: str, headers: dict[str, str], **more: Any) -> JSONResponse:
    content = {"type": f"urn:perigee:{title}", "title": title, "status": status, "detail": detail, **more}
    return JSONResponse(content, status, headers, media_type="application/problem+json")
