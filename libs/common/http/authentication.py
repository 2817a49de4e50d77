"""What every door with FastAPI has: keys, and errors as problem details (RFC 9457)."""

from functools import partial
from typing import Annotated, Any

import asyncpg
from fastapi import Depends, FastAPI, HTTPException, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes
from starlette.exceptions import HTTPException as NoRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from libs.common.api_keys import WORKSPACE_HEADER, Caller, KeyStore
from libs.common.errors import ConfigurationError, Conflict, NotFound, PerigeeError, Unavailable

_STATUS: dict[type[PerigeeError], int] = {
    NotFound: 404,
    Conflict: 409,
    ConfigurationError: 422,
    Unavailable: 503,
}
MAX_BODY_BYTES = 2_000_000
_NO_KEY = "this door needs a key: 'Authorization: Bearer <key>'"
_BEARER = {"WWW-Authenticate": "Bearer"}
_SAID = {
    400: "the request cannot be read",
    401: "no key, or a wrong one",
    403: "the key may not do this",
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
PROBLEM_RESPONSES: dict[int | str, dict[str, Any]] = {
    code: {"description": said, "content": {"application/problem+json": {"schema": _PROBLEM}}}
    for code, said in _SAID.items()
}
"""What any route may answer beside its own, for its OpenAPI document."""
_bearer = HTTPBearer(auto_error=False, description="a key as 'Authorization: Bearer KEY'")


async def _brought(
    request: Request,
    wanted: SecurityScopes,
    _: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Caller:
    """Return whom the gate let in. The scopes of the route are those in its OpenAPI document."""
    caller: Caller = request.scope["perigee.caller"]
    for scope in wanted.scopes:
        if not caller.has_scope(scope):
            raise HTTPException(
                403,
                f"the key has no scope {scope!r}: 'perigee key create --scope {scope}' makes one",
            )
    return caller


def require_scope(scope: str) -> Any:
    """Return the dependency that gives a route its Caller, who has to have the scope."""
    return Security(_brought, scopes=[scope])


class AuthenticationMiddleware:
    """Lets no request under its paths in without a key, before its body is read; a body has an end, but where files come in."""

    def __init__(
        self, app: ASGIApp, paths: tuple[str, ...], keyring: KeyStore, files: str | None = None
    ) -> None:
        self._app, self._paths, self._keyring, self._files = app, paths, keyring, files

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with its Caller, or answer it."""
        if scope["type"] == "http" and scope["path"].startswith(self._paths):
            headers = dict(scope["headers"])
            try:
                caller = await self._caller(headers)
            except PerigeeError as error:
                await _said(error)(scope, receive, send)
                return
            if caller is None:
                await _problem("Refused", 401, _NO_KEY, _BEARER)(scope, receive, send)
                return
            scope["perigee.caller"] = caller
            if self._files is None or not scope["path"].startswith(self._files):
                if int(headers.get(b"content-length", b"0")[:15] or b"0") > MAX_BODY_BYTES:
                    await _problem(
                        "TooLarge", 413, f"a body here has at most {MAX_BODY_BYTES:,} bytes", {}
                    )(scope, receive, send)
                    return
                receive = partial(_bounded, receive, [MAX_BODY_BYTES])
        await self._app(scope, receive, send)

    async def _caller(self, headers: dict[bytes, bytes]) -> Caller | None:
        scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
        workspace = headers.get(WORKSPACE_HEADER.encode())
        if scheme.lower() != b"bearer" or not key:
            return None
        named = workspace.decode("latin-1") if workspace is not None else None
        return await self._keyring.authenticate(key.decode("latin-1"), named)


async def _bounded(receive: Receive, left: list[int]) -> Message:
    event = await receive()
    left[0] -= len(event.get("body", b""))
    # What is beyond is as good as gone: the application sees a client that went away.
    return event if left[0] >= 0 else {"type": "http.disconnect"}


def install_problem_handlers(app: FastAPI) -> None:
    """Answer every error as `application/problem+json`: type, title, status, detail; `errors` where fields are wrong."""
    app.add_exception_handler(PerigeeError, _of_ours)
    app.add_exception_handler(asyncpg.DataError, _of_data)
    app.add_exception_handler(NoRoute, _of_http)  # of which FastAPI's own is a kind
    app.add_exception_handler(RequestValidationError, _of_fields)


async def _of_ours(_: Request, error: Exception) -> JSONResponse:
    return _said(error)


def _said(error: Exception) -> JSONResponse:
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)
    headers = {"Retry-After": "1"} if status == 503 else {}
    return _problem(type(error).__name__, status, str(error), headers)


async def _of_data(_: Request, __: Exception) -> JSONResponse:
    return _problem(
        "InvalidRequest",
        422,
        "the request holds a NUL, a broken character or a number that cannot be stored",
        {},
    )


async def _of_http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, NoRoute)
    return _problem("Refused", error.status_code, str(error.detail), dict(error.headers or {}))


async def _of_fields(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    faults = [{"field": ".".join(map(str, e["loc"])), "message": e["msg"]} for e in error.errors()]
    said = "; ".join(f"{fault['field']}: {fault['message']}" for fault in faults)
    return _problem("InvalidRequest", 422, said, {}, errors=faults)


def _problem(
    title: str, status: int, detail: str, headers: dict[str, str], **more: Any
) -> JSONResponse:
    content = {
        "type": f"urn:perigee:{title}",
        "title": title,
        "status": status,
        "detail": detail,
        **more,
    }
    return JSONResponse(content, status, headers, media_type="application/problem+json")
