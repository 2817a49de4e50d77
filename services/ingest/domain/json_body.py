"""JSON from outside: unpacked within limits, decoded, and cleaned of what nothing can store.

Content types are ignored, as SDKs send JSON under several. Lone surrogates and NUL are legal JSON that neither UTF-8
nor PostgreSQL takes: they become U+FFFD. NaN, infinities and deep nesting cost the message that says something by them.

A strict decoder reads nearly everything; what it refuses is read by Python's, which takes more, and cleaned value by value.
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
"""What can be kept of a message that is refused: more is refused with its request."""
MAX_DEPTH = 20
SHALLOW = 6
"""Levels that a part may have and be read at once: what a decoder has to know of them doubles with each."""
DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""How the strict decoder refuses."""
StorableInt = Annotated[int, msgspec.Meta(gt=-(1 << 63), le=(1 << 63) - 1)]
PlainValue = str | StorableInt | float | bool | None
"""What a store can take as it is, as long as no text has a NUL."""
_NUMBERED = re.compile(rb"\\u(?:00[0-7]|[dD][89a-fA-F])")
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u([0-9a-fA-F]{4})|.)",
    re.DOTALL,
)
"""A pair of surrogates, a number of any other character, or what else has a backslash."""
_ITSELF = {b"%04x" % code: bytes([code]) for code in range(0x20, 0x7F)} | {
    b"0022": rb"\"",
    b"005c": rb"\\",
}
_ITSELF |= {b"%04x" % code: rb"\ufffd" for code in (0, *range(0xD800, 0xE000))}
"""What may stand in a text instead of a number; of what no store takes, what replaces it."""


class BodyTooLarge(InvalidMessage):
    """The body exceeds the limit: 413."""


def _levels(count: int) -> Any:
    """Return the type of JSON that has at most so many levels, and nothing that has to be cleaned."""
    nested: Any = PlainValue
    for _ in range(count):
        nested = PlainValue | list[nested] | dict[str, nested]
    return nested


_encode = msgspec.json.Encoder().encode
_shallow = msgspec.json.Decoder(_levels(SHALLOW))
ShallowValue: Any = _levels(SHALLOW - 1)
"""Value of a member of an object that is decoded at once."""


def decompress(body: bytes, encoding: str) -> bytes:
    """Undo gzip within MAX_BODY. Raises BodyTooLarge, or InvalidMessage for bytes that are not gzip."""
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
    """Raise BodyTooLarge when one of these could not be kept if it were refused."""
    longest = max(map(len, messages), default=0)
    if longest > MAX_DEAD_LETTER:
        raise BodyTooLarge("too_large", f"a message has {longest} bytes: at most {MAX_EVENT}")


def normalise_escapes(raw: bytes) -> bytes:
    """Return JSON whose texts have no NUL, no half of a surrogate pair, and nothing of ASCII that is printed by its number.

    So nothing hides from who looks for it. Outside of texts, where no backslash may stand, this may make JSON of what is none; it
    is read as strictly as any other.
    """
    if raw.find(b"\\") < 0 or _NUMBERED.search(raw) is None:
        return raw
    try:
        return _ESCAPE.sub(_itself, raw)
    except ValueError:
        return raw  # no JSON, and to stay none


def _itself(escape: re.Match[bytes]) -> bytes:
    found, code = escape.group(), escape.group(1)
    if found == rb"\u":
        raise ValueError(found)  # half an escape, which what follows could make whole
    return found if code is None else _ITSELF.get(code.lower(), found)


def check_message_size(raw: bytes) -> None:
    """Raise InvalidMessage when one message is too large."""
    if len(raw) > MAX_EVENT:
        raise InvalidMessage("too_large", f"the message has {len(raw)} bytes: at most {MAX_EVENT}")


def decode_clean(raw: bytes) -> Any:
    """Decode a message, or a part of one, clean. Raises InvalidMessage when it is too large, too deep or has NaN."""
    check_message_size(raw)
    try:
        return _shallow.decode(normalise_escapes(raw))
    except DECODE_ERRORS:
        return clean_value(decode_document(raw))


def decode_document(raw: bytes) -> Any:
    """Decode JSON as it is, with all that Python takes beside JSON (NaN). Raises InvalidMessage when it is none."""
    try:
        return json.loads(raw.decode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise InvalidMessage("bad_json", f"it is not JSON: {error}") from None


def encode_json(event: Any) -> bytes:
    """Return what was read as JSON again."""
    try:
        return _encode(event)
    except (TypeError, ValueError, OverflowError, UnicodeEncodeError, RecursionError):
        return encode_lenient(event)


def clean_value(value: Any, depth: int = MAX_DEPTH) -> Any:
    """Return a value without NUL and lone surrogates. Raises InvalidMessage for what nests deeper, or is no number of a store."""
    if depth < 0:
        raise InvalidMessage("too_deep", f"the message nests deeper than {MAX_DEPTH}")
    if isinstance(value, list):
        return [clean_value(v, depth - 1) for v in value]
    if isinstance(value, str):
        return _cleaned(value)
    if isinstance(value, dict):
        return {clean_value(k, depth): clean_value(v, depth - 1) for k, v in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidMessage("bad_number", "the message holds NaN or an infinity")
    if isinstance(value, int) and abs(value) >= 1 << 63:
        raise InvalidMessage("bad_number", "the message holds an integer beyond 64 bits")
    return value


def _cleaned(text: str) -> str:
    if not text.isascii():
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text.replace("\0", "\ufffd")


def encode_lenient(message: Any) -> bytes:
    """Return what Python's decoder read as JSON again, with all that it took beside JSON (NaN)."""
    try:
        return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return json.dumps(message, separators=(",", ":")).encode()
    except RecursionError:
        return b'"nested too deeply"'
