"""Authentication by API key, for the admin and public APIs."""

from functools import partial
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from libs.common.api_keys import WORKSPACE_HEADER, Caller, KeyStore
from libs.common.errors import PerigeeError
from libs.common.http.problem_details import problem_for_error, problem_response
from libs.common.ids import WorkspaceId

MAX_BODY_BYTES = 2_000_000
_KEY_REQUIRED = "this path requires a key: 'Authorization: Bearer <key>'"
_CHALLENGE = {"WWW-Authenticate": "Bearer"}
_bearer = HTTPBearer(auto_error=False, description="a key as 'Authorization: Bearer KEY'")


async def _authorized_caller(
    request: Request,
    required: SecurityScopes,
    _: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Caller:
    """Return the caller that the middleware authenticated; the route's OpenAPI names its scopes."""
    caller: Caller = request.scope["perigee.caller"]
    for scope in required.scopes:
        if not caller.has_scope(scope):
            raise HTTPException(
                403,
                f"the key has no scope {scope!r}: 'perigee key create --scope {scope}' makes one",
            )
    return caller


def require_scope(scope: str) -> Any:
    """Return the dependency that gives a route its Caller, and answers 403 without the scope."""
    return Security(_authorized_caller, scopes=[scope])


class AuthenticationMiddleware:
    """Requests under `paths` need a key, checked before the body is read.

    Bodies under `paths` are limited to MAX_BODY_BYTES, except under the prefix `files` (uploads).
    """

    def __init__(
        self, app: ASGIApp, paths: tuple[str, ...], keyring: KeyStore, files: str | None = None
    ) -> None:
        self._app, self._paths, self._keyring, self._files = app, paths, keyring, files

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its Caller in the scope, or answer it with a problem."""
        if scope["type"] == "http" and scope["path"].startswith(self._paths):
            headers = dict(scope["headers"])
            try:
                caller = await self._caller(headers)
            except PerigeeError as error:
                await problem_for_error(error)(scope, receive, send)
                return
            if caller is None:
                refusal = problem_response("Refused", 401, _KEY_REQUIRED, _CHALLENGE)
                await refusal(scope, receive, send)
                return
            scope["perigee.caller"] = caller
            if self._files is None or not scope["path"].startswith(self._files):
                if int(headers.get(b"content-length", b"0")[:15] or b"0") > MAX_BODY_BYTES:
                    detail = f"a body on this path has at most {MAX_BODY_BYTES:,} bytes"
                    await problem_response("TooLarge", 413, detail, {})(scope, receive, send)
                    return
                receive = partial(_receive_bounded, receive, [MAX_BODY_BYTES])
        await self._app(scope, receive, send)

    async def _caller(self, headers: dict[bytes, bytes]) -> Caller | None:
        scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
        workspace_header = headers.get(WORKSPACE_HEADER.encode())
        if scheme.lower() != b"bearer" or not key:
            return None
        workspace = (
            WorkspaceId(workspace_header.decode("latin-1"))
            if workspace_header is not None
            else None
        )
        return await self._keyring.authenticate(key.decode("latin-1"), workspace)


async def _receive_bounded(receive: Receive, remaining: list[int]) -> Message:
    event = await receive()
    remaining[0] -= len(event.get("body", b""))
    # Beyond the limit the application sees a client that disconnected.
    return event if remaining[0] >= 0 else {"type": "http.disconnect"}
