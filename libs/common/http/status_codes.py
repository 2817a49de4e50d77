"""HTTP status and error code of each exception, for all HTTP APIs.

The admin and public APIs answer with problem details (`libs.common.http.problem_details`), typed
by the exception's class name; the tracking API and `/v1/me/next` answer with `code` and
`message`.

`InvalidMessage` has no row: its code is its `reason`. The tracking API answers it with 400; in the
other APIs it is a stored message that cannot be decoded, an internal error.
"""

from typing import NamedTuple

from libs.common.errors import (
    ConfigurationError,
    Conflict,
    InvalidWebhookSignature,
    NotFound,
    OriginNotAllowed,
    PerigeeError,
    RateLimitExceeded,
    Unavailable,
    UnknownWriteKey,
    WebhooksOnly,
)

INTERNAL_ERROR = 500


class ErrorStatus(NamedTuple):
    """HTTP status of an exception, and its stable code for clients."""

    status: int
    code: str


STATUS_CODES: dict[type[PerigeeError], ErrorStatus] = {
    UnknownWriteKey: ErrorStatus(401, "unknown_write_key"),
    InvalidWebhookSignature: ErrorStatus(401, "bad_signature"),
    WebhooksOnly: ErrorStatus(403, "hooks_only"),
    OriginNotAllowed: ErrorStatus(403, "origin_not_allowed"),
    NotFound: ErrorStatus(404, "not_found"),
    Conflict: ErrorStatus(409, "conflict"),
    ConfigurationError: ErrorStatus(422, "invalid_configuration"),
    RateLimitExceeded: ErrorStatus(429, "too_fast"),
    Unavailable: ErrorStatus(503, "unavailable"),
}


def error_status(error: BaseException) -> ErrorStatus:
    """Return the status and code of an error; 500 for an error that has no row in the table."""
    for error_class, status in STATUS_CODES.items():
        if isinstance(error, error_class):
            return status
    return ErrorStatus(INTERNAL_ERROR, "internal_error")
