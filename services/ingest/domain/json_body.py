"""JSON from clients: decompressed within limits, decoded, and cleaned.

Content types are ignored, as SDKs send JSON under several. Lone surrogates and NUL are legal JSON
that neither UTF-8 nor PostgreSQL takes: they become U+FFFD. A message with NaN, an infinity or deep
nesting is refused.

A strict decoder (msgspec) handles nearly every message; Python's, which accepts more, decodes the
rest, which is cleaned value by value.
"""

import json
import math
import re
import zlib
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from libs.common.errors import InvalidMessage

MAX_BODY = 4 * 1024 * 1024
MAX_EVENT = 256 * 1024
MAX_DEAD_LETTER = 900_000
"""Size of a dead letter; a request with a larger message is refused as a whole."""
MAX_DEPTH = 20
SHALLOW = 6
"""Levels of nesting for the strict decoder: the size of its type doubles with each."""
DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Errors of the strict decoder."""
StorableInt = Annotated[int, msgspec.Meta(gt=-(1 << 63), le=(1 << 63) - 1)]
PlainValue = str | StorableInt | float | bool | None
"""Value that can be stored unchanged, provided that no text has a NUL."""
_NUMBERED = re.compile(rb"\\u(?:00[0-7]|[dD][89a-fA-F])")
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u([0-9a-fA-F]{4})|.)",
    re.DOTALL,
)
"""A pair of surrogates, any other numbered escape, or an escape of one character."""
_REPLACEMENTS = {b"%04x" % code: bytes([code]) for code in range(0x20, 0x7F)} | {
    b"0022": rb"\"",
    b"005c": rb"\\",
}
_REPLACEMENTS |= {b"%04x" % code: rb"\ufffd" for code in (0, *range(0xD800, 0xE000))}
"""{code: replacement} of numbered escapes; U+FFFD for characters that cannot be stored."""


class BodyTooLarge(InvalidMessage):
    """The body exceeds the limit: 413."""


def _levels(count: int) -> Any:
    """Return the type of clean JSON with at most `count` levels."""
    nested: Any = PlainValue
    for _ in range(count):
        nested = PlainValue | list[nested] | dict[str, nested]
    return nested


_encode = msgspec.json.Encoder().encode
_shallow = msgspec.json.Decoder(_levels(SHALLOW))
ShallowValue: Any = _levels(SHALLOW - 1)
"""Value of a member of an object that is decoded at once."""


def decompress(body: bytes, encoding: str) -> bytes:
    """Decompress gzip within MAX_BODY. Raises BodyTooLarge, or InvalidMessage for other bytes."""
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
        raise BodyTooLarge("too_large", f"the body unpacks to more than {MAX_BODY} bytes")
    if not inflater.eof or inflater.unused_data:
        raise InvalidMessage("bad_encoding", "the gzip body is cut off or has something behind it")
    return plain


def check_dead_letter_sizes(messages: Sequence[bytes]) -> None:
    """Raise BodyTooLarge if a message is too large for a dead letter."""
    longest = max(map(len, messages), default=0)
    if longest > MAX_DEAD_LETTER:
        raise BodyTooLarge("too_large", f"a message has {longest} bytes: at most {MAX_EVENT}")


def normalise_escapes(raw: bytes) -> bytes:
    """Return JSON without NUL, lone surrogates, and numbered escapes of printable ASCII.

    So a search of the bytes finds each ASCII text. Outside of texts, where no backslash is allowed,
    this may turn invalid JSON into valid JSON, which is decoded as strictly as any other.
    """
    if raw.find(b"\\") < 0 or _NUMBERED.search(raw) is None:
        return raw
    try:
        return _ESCAPE.sub(_replacement, raw)
    except ValueError:
        return raw  # not JSON, and must not become JSON


def _replacement(escape: re.Match[bytes]) -> bytes:
    text, code = escape.group(), escape.group(1)
    if text == rb"\u":
        raise ValueError(text)  # half an escape, which the next replacement could complete
    return text if code is None else _REPLACEMENTS.get(code.lower(), text)


def check_message_size(raw: bytes) -> None:
    """Raise InvalidMessage if a message is too large."""
    if len(raw) > MAX_EVENT:
        raise InvalidMessage("too_large", f"the message has {len(raw)} bytes: at most {MAX_EVENT}")


def decode_clean(raw: bytes) -> Any:
    """Decode a message or a part of it, and clean it.

    Raises InvalidMessage when it is too large, too deep or has NaN.
    """
    check_message_size(raw)
    try:
        return _shallow.decode(normalise_escapes(raw))
    except DECODE_ERRORS:
        return clean_value(decode_document(raw))


def decode_document(raw: bytes) -> Any:
    """Decode JSON without cleaning, with Python's extensions (NaN). Raises InvalidMessage."""
    try:
        return json.loads(raw.decode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise InvalidMessage("bad_json", f"it is not JSON: {error}") from None


def encode_json(event: Any) -> bytes:
    """Encode a decoded value."""
    try:
        return _encode(event)
    except (TypeError, ValueError, OverflowError, UnicodeEncodeError, RecursionError):
        return encode_lenient(event)


def clean_value(value: Any, depth: int = MAX_DEPTH) -> Any:
    """Return a value without NUL and lone surrogates.

    Raises InvalidMessage for deeper nesting, and for numbers that cannot be stored.
    """
    if depth < 0:
        raise InvalidMessage("too_deep", f"the message nests deeper than {MAX_DEPTH}")
    if isinstance(value, list):
        return [clean_value(v, depth - 1) for v in value]
    if isinstance(value, str):
        return _clean_text(value)
    if isinstance(value, dict):
        return {clean_value(k, depth): clean_value(v, depth - 1) for k, v in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidMessage("bad_number", "the message holds NaN or an infinity")
    if isinstance(value, int) and abs(value) >= 1 << 63:
        raise InvalidMessage("bad_number", "the message holds an integer beyond 64 bits")
    return value


def _clean_text(text: str) -> str:
    if not text.isascii():
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text.replace("\0", "\ufffd")


def encode_lenient(message: Any) -> bytes:
    """Encode a value of Python's decoder, with its extensions (NaN)."""
    try:
        return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # a lone surrogate
        return json.dumps(message, separators=(",", ":")).encode()
    except RecursionError:
        return b'"nested too deeply"'
