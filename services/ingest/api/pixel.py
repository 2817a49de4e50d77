"""Tracking pixel: one call in the URL of an image, for pages without scripts and for e-mails.

    /v1/pixel.gif?writeKey=KEY[&event=NAME][&anonymousId=ID][&userId=ID][&url=PAGE][&title=…]

With `event` it is a track call, else a page view. Without an id each request is a new contact:
nothing else about a browser identifies it. Global Privacy Control and Do Not Track are honoured.
"""

import base64
import uuid
from collections.abc import Mapping
from urllib.parse import parse_qsl

import msgspec

from libs.common.errors import InvalidMessage
from services.ingest.domain.source import Source
from services.ingest.handlers.ingestion import TrackingRequest

GIF = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
_CALL_PARAMETERS = frozenset(
    ("writeKey", "event", "anonymousId", "userId", "messageId", "url", "title", "name")
)
_MAX_PARAMETERS = 50
_encode = msgspec.json.Encoder().encode


def pixel_request(
    headers: Mapping[bytes, bytes], query: bytes, client: str, source: Source | None
) -> TrackingRequest | None:
    """Return the tracking request of a pixel; None when the browser asks not to be tracked."""
    if b"1" in (headers.get(b"sec-gpc"), headers.get(b"dnt")):
        return None
    parameters = _parameters(query)
    page = parameters.get("url") or _text(headers, b"referer")
    kind = "track" if "event" in parameters else "page"
    call = {
        "messageId": parameters.get("messageId"),
        "anonymousId": parameters.get("anonymousId")
        or (None if "userId" in parameters else str(uuid.uuid4())),
        "userId": parameters.get("userId"),
        "event": parameters.get("event"),
        "name": parameters.get("name"),
        "properties": {
            name: value for name, value in parameters.items() if name not in _CALL_PARAMETERS
        },
        "context": {
            "page": {"url": page, "title": parameters.get("title", "")},
            "userAgent": _text(headers, b"user-agent"),
            "library": {"name": "pixel.gif", "version": "1"},
        },
    }
    return TrackingRequest(_encode(call), source, kind, None, client)


def _parameters(query: bytes) -> dict[str, str]:
    try:
        return dict(parse_qsl(query.decode("latin-1"), max_num_fields=_MAX_PARAMETERS))
    except ValueError:
        raise InvalidMessage(
            "bad_query", f"the URL has more than {_MAX_PARAMETERS} parameters"
        ) from None


def _text(headers: Mapping[bytes, bytes], name: bytes) -> str:
    return headers.get(name, b"").decode("latin-1")[:2_000]
