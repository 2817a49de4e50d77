"""Extraction of the write key from a request, at the positions that SDKs use."""

import base64
import binascii
from collections.abc import Mapping
from urllib.parse import parse_qs

from libs.common.bounded_cache import cache_by_text

Headers = Mapping[bytes, bytes]


def extract_write_key(headers: Headers, query: bytes) -> str | None:
    """Return the key of Basic authorization, of Jitsu's X-Write-Key or of the query.

    A body may contain a key too, which the caller reads.
    """
    return (
        _key_of_basic(headers.get(b"authorization", b""))
        or _key_of_jitsu(headers.get(b"x-write-key", b""))
        or _key_of_query(query)
    )


@cache_by_text(1_024)
def _key_of_basic(header: bytes) -> str | None:
    """Return the user name; the password is empty, and some SDKs omit the colon."""
    scheme, _, value = header.partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        return base64.b64decode(value.strip(), validate=True).decode().partition(":")[0] or None
    except (binascii.Error, UnicodeDecodeError):
        return None


def _key_of_jitsu(header: bytes) -> str | None:
    """Return the key of a `key:secret` header."""
    return header.decode("latin-1").partition(":")[0].strip() or None


def _key_of_query(query: bytes) -> str | None:
    return parse_qs(query.decode("latin-1")).get("writeKey", [None])[0] if query else None
