"""The tracking API's answers. SDKs need `code` and `message` in each refusal, and back-pressure that is no 4xx."""

from typing import Any

import msgspec

from libs.common.errors import InvalidMessage, NotFound, PerigeeError, Unavailable
from libs.common.http.cors import HeaderList
from libs.common.observability import metrics
from services.ingest.adapters import InvalidWebhookSignature
from services.ingest.domain.json_body import BodyTooLarge
from services.ingest.handlers.ingestion import (
    OriginNotAllowed,
    RateLimitExceeded,
    UnknownWriteKey,
    WebhooksOnly,
)

HttpResponse = tuple[int, bytes, HeaderList]
SUCCESS: HttpResponse = (200, b'{"success":true}', [])
EXPECTED_ERRORS = (
    PerigeeError,
    InvalidWebhookSignature,
    WebhooksOnly,
    OriginNotAllowed,
    RateLimitExceeded,
    UnknownWriteKey,
)
_encode = msgspec.json.Encoder().encode


def settings_document(found: Any) -> HttpResponse:
    """Return a settings document."""
    return 200, _encode(found), [(b"cache-control", b"private, max-age=300")]


def error_response(
    status: int, code: str, message: str, extra: HeaderList | None = None
) -> HttpResponse:
    """Return a refusal, and count it: nothing else tells that a source sends with a wrong key, or from a wrong page."""
    metrics.REQUESTS_REFUSED.labels(code=code).inc()
    return status, _encode({"code": code, "message": message}), extra or []


def response_headers(answer: HttpResponse) -> HeaderList:
    """Return all headers of an answer."""
    status, content, about = answer
    sized = [] if status == 204 else [(b"content-length", b"%d" % len(content))]
    if content and not any(name == b"content-type" for name, _ in about):
        sized.append((b"content-type", b"application/json"))
    return [*sized, *about]


def response_for_error(why: BaseException) -> HttpResponse:
    """Return the answer to what could not be taken."""
    match why:
        case BodyTooLarge():
            return error_response(413, why.reason, why.detail)
        case InvalidMessage():
            return error_response(400, why.reason, why.detail)
        case UnknownWriteKey():
            return error_response(401, "unknown_write_key", "no source has this write key")
        case InvalidWebhookSignature():
            return error_response(401, "bad_signature", str(why))
        case WebhooksOnly():
            return error_response(
                403,
                "hooks_only",
                "this source takes signed events at /v1/hook only: another source is for calls",
            )
        case OriginNotAllowed():
            return error_response(
                403, "origin_not_allowed", "this source takes nothing from pages of this origin"
            )
        case NotFound():
            return error_response(404, "not_found", str(why))
        case RateLimitExceeded():
            wait = [(b"retry-after", b"%d" % why.seconds)]
            return error_response(
                429,
                "too_fast",
                f"the source sends faster than it may: again in {why.seconds} s",
                wait,
            )
        case Unavailable():
            return error_response(
                503,
                "unavailable",
                f"not stored, please send again: {why}",
                [(b"retry-after", b"1")],
            )
        case _:
            raise why
