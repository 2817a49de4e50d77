"""JSON from outside: unpacked within limits, decoded, and cleaned of what nothing can store.

Content types are ignored, as SDKs send JSON under several. Lone surrogates and NUL are legal JSON that neither UTF-8
nor PostgreSQL takes: they become U+FFFD. NaN, infinities and deep nesting cost the message that says something by them.
"""

import json
import math
import re
import zlib
from collections.abc import Sequence
from typing import Any

import msgspec

from libs.common.errors import InvalidMessage

MAX_BODY = 4 * 1024 * 1024
MAX_EVENT = 256 * 1024
MAX_LETTER = 900_000
"""What can be kept of a message that is refused: more is refused with its request."""
MAX_DEPTH = 20
_ESCAPED = re.compile(rb"\\u00[0-7]")
_LONG_NUMBER = re.compile(rb"[:,\[]\s*-?[0-9]{19}")
_ZEROS = bytes.maketrans(b"0123456789", b"0" * 10)
_LONG = b"0" * 19
"""What an integer beyond 64 bits leaves of itself when all digits are zeros: much faster to look for."""


class TooLarge(InvalidMessage):
    """The body exceeds the limit: 413."""


_encode = msgspec.json.Encoder().encode
_any = msgspec.json.Decoder()


def unpack(body: bytes, encoding: str) -> bytes:
    """Undo gzip within MAX_BODY. Raises TooLarge, or InvalidMessage for bytes that are not gzip."""
    if encoding in ("", "identity"):
        return body
    if encoding != "gzip":
        raise InvalidMessage("bad_encoding", f"Content-Encoding {encoding!r:.40}: gzip or identity")
    inflater = zlib.decompressobj(31)
    try:
        plain = inflater.decompress(body, MAX_BODY + 1)
    except zlib.error as error:
        raise InvalidMessage("bad_encoding", f"the body is not gzip: {error}") from None
    if len(plain) > MAX_BODY or inflater.unconsumed_tail:
        raise TooLarge("too_large", f"the body unpacks to more than {MAX_BODY} bytes")
    if not inflater.eof or inflater.unused_data:
        raise InvalidMessage("bad_encoding", "the gzip body is cut off or has something behind it")
    return plain


def check_kept(messages: Sequence[bytes]) -> None:
    """Raise TooLarge when one of these could not be kept if it were refused."""
    longest = max(map(len, messages), default=0)
    if longest > MAX_LETTER:
        raise TooLarge("too_large", f"a message has {longest} bytes: at most {MAX_EVENT}")


def has_escapes(raw: bytes) -> bool:
    """Return whether JSON may write ASCII by its numbers: a NUL, which it can write only so, or a token."""
    return b"\\u00" in raw and _ESCAPED.search(raw) is not None


def is_plain(raw: bytes) -> bool:
    """Return whether a message or a part needs no cleaning: no NUL, nothing that may be too deep, no integer beyond 64 bits.

    Raises InvalidMessage when it is too large.
    """
    if len(raw) > MAX_EVENT:
        raise InvalidMessage("too_large", f"the message has {len(raw)} bytes: at most {MAX_EVENT}")
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH or has_escapes(raw):
        return False
    return _LONG not in raw.translate(_ZEROS) or _LONG_NUMBER.search(raw) is None


def read(raw: bytes) -> Any:
    """Decode a message, or a part of one, and clean it. Raises InvalidMessage when it is too large, too deep or has NaN."""
    clean = is_plain(raw)
    try:
        message = _any.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        message, clean = _loads(raw), False
    return message if clean else cleaned(message)


def document(raw: bytes) -> Any:
    """Decode a whole body that is no call of ours. Raises InvalidMessage when it is no JSON."""
    try:
        return _any.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _loads(raw)


def written(event: Any) -> bytes:
    """Return what was read as JSON again."""
    try:
        return _encode(event)
    except (TypeError, ValueError, OverflowError, UnicodeEncodeError, RecursionError):
        return dumped(event)


def _loads(raw: bytes) -> Any:
    try:
        return json.loads(raw.decode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise InvalidMessage("bad_json", f"the message is not JSON: {error}") from None


def cleaned(value: Any, depth: int = MAX_DEPTH) -> Any:
    """Return a value without NUL and lone surrogates. Raises InvalidMessage for what nests deeper, or is no number of a store."""
    if depth < 0:
        raise InvalidMessage("too_deep", f"the message nests deeper than {MAX_DEPTH}")
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", "\ufffd")
    if isinstance(value, dict):
        return {cleaned(k, depth): cleaned(v, depth - 1) for k, v in value.items()}
    if isinstance(value, list):
        return [cleaned(v, depth - 1) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidMessage("bad_number", "the message holds NaN or an infinity")
    if isinstance(value, int) and abs(value) >= 1 << 63:
        raise InvalidMessage("bad_number", "the message holds an integer beyond 64 bits")
    return value


def dumped(message: Any) -> bytes:
    """Return what Python's decoder read as JSON again, with all that it took beside JSON (NaN)."""
    try:
        return json.dumps(message, ensure_ascii=True, separators=(",", ":")).encode()
    except RecursionError:
        return b'"nested too deeply"'
