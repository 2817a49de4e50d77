"""Cross-origin rules (the Fetch standard), on every answer.

A browser library that gets an answer without them sees a network error, and tries again for ever.
A preflight carries no key, so it cannot be asked which origins its source allows: it is answered for all, and the request
itself is what is refused. We set no cookies, so the echoed origin gives nobody anything.
"""

import re
from collections.abc import Mapping

HeaderList = list[tuple[bytes, bytes]]
_METHODS = b"GET, HEAD, POST, OPTIONS"
_NAMES = re.compile(rb"[A-Za-z0-9, \-_]{1,1000}")
_HOURS_2 = b"7200"


def cors_headers(headers: Mapping[bytes, bytes]) -> HeaderList:
    """Return what every answer carries: the origin echoed, since `*` covers neither credentials nor beacons."""
    origin = headers.get(b"origin")
    if origin is None:
        return []
    return [
        (b"access-control-allow-origin", origin),
        (b"access-control-allow-credentials", b"true"),
        (b"access-control-expose-headers", b"Retry-After"),
        (b"vary", b"Origin"),
    ]


def preflight_headers(headers: Mapping[bytes, bytes]) -> HeaderList:
    """Return the answer to an OPTIONS request. Headers are named, as `*` does not cover Authorization."""
    asked = headers.get(b"access-control-request-headers", b"")
    names = asked if _NAMES.fullmatch(asked) else b"authorization, content-type"
    return [
        *cors_headers(headers),
        (b"access-control-allow-methods", _METHODS),
        (b"access-control-allow-headers", names),
        (b"access-control-max-age", _HOURS_2),
    ]
