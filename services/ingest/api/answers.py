"""The tracking API's answers. SDKs need `code` and `message` in each refusal, and back-pressure that is no 4xx."""

from typing import Any

import msgspec

from libs.common.errors import InvalidMessage, NotFound, PerigeeError, Unavailable
from libs.common.http.cors import HeaderList
from libs.common.observability import metrics
from services.ingest.adapters import BadSignature
from services.ingest.domain.body import TooLarge
from services.ingest.handlers.door import HooksOnly, StrangeOrigin, TooFast, UnknownKey

Answer = tuple[int, bytes, HeaderList]
SUCCESS: Answer = (200, b'{"success":true}', [])
REFUSALS = (PerigeeError, BadSignature, HooksOnly, StrangeOrigin, TooFast, UnknownKey)
_encode = msgspec.json.Encoder().encode


def document(found: Any) -> Answer:
    """Return a settings document."""
    return 200, _encode(found), [(b"cache-control", b"private, max-age=300")]


def error(status: int, code: str, message: str, extra: HeaderList | None = None) -> Answer:
    """Return a refusal, and count it: nothing else tells that a source sends with a wrong key, or from a wrong page."""
    metrics.REQUESTS_REFUSED.labels(code=code).inc()
    return status, _encode({"code": code, "message": message}), extra or []


def headers_of(answer: Answer) -> HeaderList:
    """Return all headers of an answer."""
    status, content, about = answer
    sized = [] if status == 204 else [(b"content-length", b"%d" % len(content))]
    if content and not any(name == b"content-type" for name, _ in about):
        sized.append((b"content-type", b"application/json"))
    return [*sized, *about]


def refused(why: BaseException) -> Answer:
    """Return the answer to what could not be taken."""
    match why:
        case TooLarge():
            return error(413, why.reason, why.detail)
        case InvalidMessage():
            return error(400, why.reason, why.detail)
        case UnknownKey():
            return error(401, "unknown_write_key", "no source has this write key")
        case BadSignature():
            return error(401, "bad_signature", str(why))
        case HooksOnly():
            return error(
                403, "hooks_only", "this source takes signed events at /v1/hook only: another source is for calls"
            )
        case StrangeOrigin():
            return error(403, "origin_not_allowed", "this source takes nothing from pages of this origin")
        case NotFound():
            return error(404, "not_found", str(why))
        case TooFast():
            wait = [(b"retry-after", b"%d" % why.seconds)]
            return error(429, "too_fast", f"the source sends faster than it may: again in {why.seconds} s", wait)
        case Unavailable():
            return error(503, "unavailable", f"not stored, please send again: {why}", [(b"retry-after", b"1")])
        case _:
            raise why
