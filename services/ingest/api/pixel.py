"""One call in the address of a picture, for pages without scripts and for mails.

    /v1/pixel.gif?writeKey=KEY[&event=NAME][&anonymousId=ID][&userId=ID][&url=PAGE][&title=…]

With `event` it is a track call, else a page view. Without an id each picture is a person of its own: nothing else about a
browser is fit to know it again by. Global Privacy Control and Do Not Track are honoured.
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
_KNOWN = frozenset(
    ("writeKey", "event", "anonymousId", "userId", "messageId", "url", "title", "name")
)
_MOST = 50
_encode = msgspec.json.Encoder().encode


def pixel_request(
    headers: Mapping[bytes, bytes], query: bytes, client: str, source: Source | None
) -> TrackingRequest | None:
    """Return the request that a picture stands for; None when the browser says that it wants not to be followed."""
    if b"1" in (headers.get(b"sec-gpc"), headers.get(b"dnt")):
        return None
    said = _parameters(query)
    page = said.get("url") or _text(headers, b"referer")
    kind = "track" if "event" in said else "page"
    call = {
        "messageId": said.get("messageId"),
        "anonymousId": said.get("anonymousId") or (None if "userId" in said else str(uuid.uuid4())),
        "userId": said.get("userId"),
        "event": said.get("event"),
        "name": said.get("name"),
        "properties": {name: value for name, value in said.items() if name not in _KNOWN},
        "context": {
            "page": {"url": page, "title": said.get("title", "")},
            "userAgent": _text(headers, b"user-agent"),
            "library": {"name": "pixel.gif", "version": "1"},
        },
    }
    return TrackingRequest(_encode(call), source, kind, None, client)


def _parameters(query: bytes) -> dict[str, str]:
    try:
        return dict(parse_qsl(query.decode("latin-1"), max_num_fields=_MOST))
    except ValueError:
        raise InvalidMessage("bad_query", f"the address has more than {_MOST} parameters") from None


def _text(headers: Mapping[bytes, bytes], name: bytes) -> str:
    return headers.get(name, b"").decode("latin-1")[:2_000]
