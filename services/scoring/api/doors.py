"""The application of both doors: keys, and errors as one line with a stable name."""

import hmac
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.routing import BaseRoute

from libs.common.errors import ConfigurationError, Conflict, NotFound, PerigeeError, Unavailable

_STATUS: dict[type[PerigeeError], int] = {NotFound: 404, Conflict: 409, ConfigurationError: 422, Unavailable: 503}
_bearer = HTTPBearer(auto_error=False, description="a service key or the admin key")


def application(
    routes: list[BaseRoute],
    reading: APIRouter,
    admin: APIRouter,
    cycles: APIRouter,
    *,
    service_key: str,
    admin_key: str,
) -> FastAPI:
    """Return the application; `routes` are the open ones (health)."""
    app = FastAPI(title="Perigee scoring", version="1", docs_url="/docs", redoc_url=None)
    app.router.routes.extend(routes)
    app.include_router(reading, prefix="/v1", dependencies=[Depends(_opened_by(service_key, admin_key))])
    app.include_router(admin, prefix="/admin/v1", dependencies=[Depends(_opened_by(admin_key))])
    app.include_router(cycles, prefix="/admin/v1/cycles", dependencies=[Depends(_opened_by(admin_key))])
    app.add_exception_handler(PerigeeError, _answer)
    return app


def _opened_by(*keys: str) -> Callable[[HTTPAuthorizationCredentials | None], Awaitable[None]]:
    """Return a check that lets in who brings one of the keys; an empty key opens nothing."""
    known = [key.encode() for key in keys if key]

    async def check(given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> None:
        offered = given.credentials.encode() if given is not None else b""
        if not any([hmac.compare_digest(offered, key) for key in known]):  # noqa: C419 - each one, in equal time
            raise HTTPException(
                401, "this door needs a key: 'Authorization: Bearer <key>'", {"WWW-Authenticate": "Bearer"}
            )

    return check


async def _answer(_: Request, error: Exception) -> JSONResponse:
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)
    return JSONResponse({"error": type(error).__name__, "message": str(error)}, status_code=status)
