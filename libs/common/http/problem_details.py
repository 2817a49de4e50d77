"""Errors as problem details, `application/problem+json` (RFC 9457).

Members: `type`, `title`, `status`, `detail`; and `errors`, one object a field, for invalid fields.
"""

from typing import Any

import asyncpg
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from libs.common.errors import PerigeeError
from libs.common.http.status_codes import error_status

_DESCRIPTIONS = {
    400: "the request cannot be read",
    401: "the key is missing or wrong",
    403: "the key lacks the scope",
    404: "the object does not exist",
    409: "the request conflicts with the stored state",
    413: "the body is too large",
    422: "the request is invalid: `errors` lists the fields",
    503: "a server behind this one does not answer: retry in a second",
}
_SCHEMA = {
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
    status: {
        "description": description,
        "content": {"application/problem+json": {"schema": _SCHEMA}},
    }
    for status, description in _DESCRIPTIONS.items()
}
"""Error responses that any route can give, for its OpenAPI document."""


def install_problem_handlers(app: FastAPI) -> None:
    """Answer every error of an application with problem details."""
    app.add_exception_handler(PerigeeError, _on_perigee_error)
    app.add_exception_handler(asyncpg.DataError, _on_data_error)
    app.add_exception_handler(HTTPException, _on_http_error)  # FastAPI's own is a subclass
    app.add_exception_handler(RequestValidationError, _on_validation_error)


def problem_for_error(error: Exception) -> JSONResponse:
    """Return the problem of an error; a status of 503 has a Retry-After."""
    status = error_status(error).status
    headers = {"Retry-After": "1"} if status == 503 else {}
    return problem_response(type(error).__name__, status, str(error), headers)


def problem_response(
    title: str, status: int, detail: str, headers: dict[str, str], **extensions: Any
) -> JSONResponse:
    """Return a problem of type `urn:perigee:TITLE`; `extensions` are further members."""
    content = {
        "type": f"urn:perigee:{title}",
        "title": title,
        "status": status,
        "detail": detail,
        **extensions,
    }
    return JSONResponse(content, status, headers, media_type="application/problem+json")


async def _on_perigee_error(_: Request, error: Exception) -> JSONResponse:
    return problem_for_error(error)


async def _on_data_error(_: Request, __: Exception) -> JSONResponse:
    return problem_response(
        "InvalidRequest",
        422,
        "the request contains a NUL, a broken character or a number that cannot be stored",
        {},
    )


async def _on_http_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    return problem_response("Refused", error.status_code, str(error.detail), headers)


async def _on_validation_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    faults = [{"field": ".".join(map(str, e["loc"])), "message": e["msg"]} for e in error.errors()]
    detail = "; ".join(f"{fault['field']}: {fault['message']}" for fault in faults)
    return problem_response("InvalidRequest", 422, detail, {}, errors=faults)
