"""CORS headers (Fetch standard), on every response.

A browser library that gets a response without them sees a network error, and retries forever. A
preflight carries no key, so the allowed origins of its source are unknown: every preflight is
accepted, and the request itself is refused. There are no cookies, so echoing the origin gives no
access.
"""

import re
from collections.abc import Mapping

HeaderList = list[tuple[bytes, bytes]]
_METHODS = b"GET, HEAD, POST, OPTIONS"
_HEADER_NAMES = re.compile(rb"[A-Za-z0-9, \-_]{1,1000}")
_MAX_AGE_SECONDS = b"7200"


def cors_headers(headers: Mapping[bytes, bytes]) -> HeaderList:
    """Return the CORS headers of a response.

    The origin is echoed, since `*` covers neither credentials nor beacons.
    """
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
    """Return the headers of the response to a preflight.

    The allowed headers are listed, since `*` does not cover Authorization.
    """
    requested = headers.get(b"access-control-request-headers", b"")
    names = requested if _HEADER_NAMES.fullmatch(requested) else b"authorization, content-type"
    return [
        *cors_headers(headers),
        (b"access-control-allow-methods", _METHODS),
        (b"access-control-allow-headers", names),
        (b"access-control-max-age", _MAX_AGE_SECONDS),
    ]
