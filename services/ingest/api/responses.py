"""Responses of the tracking API.

SDKs need `code` and `message` in each refusal, and back-pressure that is no 4xx.
"""

from typing import Any, NamedTuple

import msgspec

from libs.common.errors import (
    InvalidMessage,
    InvalidWebhookSignature,
    NotFound,
    OriginNotAllowed,
    PerigeeError,
    RateLimitExceeded,
    Unavailable,
    UnknownWriteKey,
    WebhooksOnly,
)
from libs.common.http.cors import HeaderList
from libs.common.http.status_codes import error_status
from libs.common.observability import metrics
from services.ingest.domain.json_body import BodyTooLarge


class HttpResponse(NamedTuple):
    """Status, content and headers beside those of `response_headers`."""

    status: int
    content: bytes
    headers: HeaderList


SUCCESS = HttpResponse(200, b'{"success":true}', [])
EXPECTED_ERRORS = PerigeeError
_REFUSALS = (
    UnknownWriteKey,
    InvalidWebhookSignature,
    WebhooksOnly,
    OriginNotAllowed,
    NotFound,
    RateLimitExceeded,
    Unavailable,
)
"""Errors that get a response, beside InvalidMessage; any other is a fault of this process."""
_encode = msgspec.json.Encoder().encode


def settings_document(document: Any) -> HttpResponse:
    """Return the response with a settings document, cacheable for 5 minutes."""
    headers = [(b"cache-control", b"private, max-age=300")]
    return HttpResponse(200, _encode(document), headers)


def error_response(
    status: int, code: str, message: str, extra: HeaderList | None = None
) -> HttpResponse:
    """Return a refusal and count it.

    The counter is the only trace of a source with a wrong key or on a page of a wrong origin.
    """
    metrics.REQUESTS_REFUSED.labels(code=code).inc()
    return HttpResponse(status, _encode({"code": code, "message": message}), extra or [])


def response_headers(answer: HttpResponse) -> HeaderList:
    """Return all headers of a response, with content length and default content type."""
    status, content, headers = answer
    content_headers = [] if status == 204 else [(b"content-length", b"%d" % len(content))]
    if content and not any(name == b"content-type" for name, _ in headers):
        content_headers.append((b"content-type", b"application/json"))
    return [*content_headers, *headers]


def response_for_error(error: BaseException) -> HttpResponse:
    """Return the refusal for an error; raise any error that is a fault of this process."""
    if isinstance(error, InvalidMessage):
        status = 413 if isinstance(error, BodyTooLarge) else 400
        return error_response(status, error.reason, error.detail)
    if not isinstance(error, _REFUSALS):
        raise error
    status, code = error_status(error)
    if isinstance(error, Unavailable):
        message = f"not stored, please send again: {error}"
        return error_response(status, code, message, [(b"retry-after", b"1")])
    if isinstance(error, RateLimitExceeded):
        retry_after = [(b"retry-after", b"%d" % error.seconds)]
        return error_response(status, code, str(error), retry_after)
    return error_response(status, code, str(error))
