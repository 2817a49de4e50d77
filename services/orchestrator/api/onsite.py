"""`GET /v1/me/next`: content for the visitor of a page.

Authenticated by a write key, from the allowed origins of its source. Parameters: `writeKey` (or
Basic authorization), `anonymousId`, `userId` with `userHash`, `pgt` (a link token), `type`
(repeatable), `fallback`, `show=true`.
"""

import msgspec
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from libs.common.errors import OriginNotAllowed, Unavailable, UnknownWriteKey
from libs.common.http import cors
from libs.common.http.cors import HeaderList
from libs.common.http.status_codes import error_status
from libs.common.http.write_keys import extract_write_key
from libs.common.link_tokens import LINK_PARAMETER
from services.orchestrator.domain.visitor import Visitor
from services.orchestrator.handlers.onsite import OnsiteRequest, OnsiteService

PATH = "/v1/me/next"
_MAX_PARAMETER_CHARACTERS = 2_000
_MAX_TYPES = 50
_encode = msgspec.json.Encoder().encode


def onsite_route(onsite: OnsiteService) -> Route:
    """Return the route."""

    async def answer(request: Request) -> Response:
        headers = dict(request.scope["headers"])
        if request.method == "OPTIONS":
            return _response(204, b"", cors.preflight_headers(headers))
        key = extract_write_key(headers, request.scope.get("query_string", b""))
        origin = request.headers.get("origin")
        try:
            offer = await onsite.get_offer(
                key, origin.lower() if origin else None, _parse_query(request.query_params)
            )
        except (UnknownWriteKey, OriginNotAllowed, Unavailable) as error:
            return _error_response(error, cors.cors_headers(headers))
        return _response(200, _encode(offer), cors.cors_headers(headers))

    return Route(PATH, answer, methods=["GET", "OPTIONS"])


def _parse_query(query: QueryParams) -> OnsiteRequest:
    def parameter(name: str) -> str | None:
        value = query.get(name, "").replace("\x00", "")
        return value if 0 < len(value) <= _MAX_PARAMETER_CHARACTERS else None

    visitor = Visitor(
        parameter("anonymousId"),
        parameter("userId"),
        parameter("userHash"),
        parameter(LINK_PARAMETER),
    )
    types = tuple(name for name in query.getlist("type") if name)[:_MAX_TYPES]
    return OnsiteRequest(visitor, types, parameter("fallback"), query.get("show") == "true")


def _error_response(error: Exception, extra: HeaderList) -> Response:
    status, code = error_status(error)
    retry_after = [(b"retry-after", b"1")] if isinstance(error, Unavailable) else []
    body = _encode({"code": code, "message": str(error)})
    return _response(status, body, [*extra, *retry_after])


def _response(status: int, body: bytes, extra: HeaderList) -> Response:
    response = Response(body, status, media_type="application/json" if body else None)
    response.raw_headers += [*extra, (b"cache-control", b"no-store")]
    return response
