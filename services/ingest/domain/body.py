"""Request bodies: unpacked within limits, split into messages so that one bad one costs no other.

Content types are ignored, as SDKs send JSON under several. Lone surrogates and NUL are legal JSON that neither UTF-8
nor PostgreSQL takes: they become U+FFFD. NaN, infinities and deep nesting cost the message that has them.
"""

import json
import math
import re
import zlib
from collections.abc import Sequence
from typing import Any

import msgspec

from libs.common.errors import InvalidMessage
from services.ingest.domain.privacy import without_tokens

MAX_BODY = 4 * 1024 * 1024
MAX_EVENT = 256 * 1024
MAX_LETTER = 900_000
"""What can be kept of a message that is refused: more is refused with its request."""
MAX_CONTEXT = 16 * 1024
MAX_MESSAGES = 5_000
MAX_DEPTH = 20
MAX_TIME = 64
_LONG_NUMBER = re.compile(rb"[:,\[]\s*-?[0-9]{19}")
_ZEROS = bytes.maketrans(b"0123456789", b"0" * 10)
_LONG = b"0" * 19
"""What an integer beyond 64 bits leaves of itself when all digits are zeros: much faster to look for."""


class Batch(msgspec.Struct, frozen=True):
    """A decoded request: the messages as bytes, and what the batch says for all of them."""

    messages: list[bytes]
    write_key: str | None = None
    sent_at: Any = None
    context: bytes = b""
    """An object as JSON, clean; empty where none is said."""
    plain: bool = False
    """All of it is known to be plain."""


class TooLarge(InvalidMessage):
    """The body exceeds the limit: 413."""


class _Single(msgspec.Struct):
    write_key: Any = msgspec.field(default=None, name="writeKey")


class _Batch(msgspec.Struct):
    batch: list[msgspec.Raw]
    write_key: Any = msgspec.field(default=None, name="writeKey")
    sent_at: Any = msgspec.field(default=None, name="sentAt")
    context: msgspec.Raw = msgspec.Raw(b"null")


_single = msgspec.json.Decoder(_Single)
_batch = msgspec.json.Decoder(_Batch)
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


def split(body: bytes, *, is_batch: bool) -> Batch:
    """Split a body into messages. Raises InvalidMessage when the whole is unreadable or has the wrong shape."""
    try:
        if not is_batch:
            return Batch([_whole(body)], _text(_single.decode(body).write_key))
        whole = _batch.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _split_slowly(body, is_batch=is_batch)
    found = _batch_of([bytes(raw) for raw in whole.batch], whole.write_key, whole.sent_at, bytes(whole.context))
    return msgspec.structs.replace(found, plain=is_plain(body))


def _split_slowly(body: bytes, *, is_batch: bool) -> Batch:
    """Read what the strict decoder refuses but Python's accepts, and clean it."""
    try:
        whole = json.loads(body.decode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise InvalidMessage("bad_json", f"the body is not JSON: {error}") from None
    if not isinstance(whole, dict):
        raise InvalidMessage("bad_shape", f"the body is a JSON {type(whole).__name__}: an object is needed")
    if not is_batch:
        return Batch([_whole(_dumped(whole))], _text(whole.get("writeKey")))
    messages = whole.get("batch")
    if not isinstance(messages, list):
        raise InvalidMessage("bad_shape", "the body needs a list named batch")
    return _batch_of(
        [_dumped(m) for m in messages[: MAX_MESSAGES + 1]],
        whole.get("writeKey"),
        whole.get("sentAt"),
        _dumped(whole.get("context")),
    )


def check_kept(messages: Sequence[bytes]) -> None:
    """Raise TooLarge when one of these could not be kept if it were refused."""
    longest = max(map(len, messages), default=0)
    if longest > MAX_LETTER:
        raise TooLarge("too_large", f"a message has {longest} bytes: at most {MAX_EVENT}")


def _whole(message: bytes) -> bytes:
    """Return the one message of a request. Raises TooLarge: whoever sends one by one can be told."""
    if len(message) > MAX_EVENT:
        raise TooLarge("too_large", f"the message has {len(message)} bytes: at most {MAX_EVENT}")
    return message


def _batch_of(messages: list[bytes], write_key: Any, sent_at: Any, context: bytes) -> Batch:
    """Return the batch within its limits: what it says for all is multiplied by the number of its messages."""
    if len(messages) > MAX_MESSAGES:
        raise TooLarge("too_many", f"the batch has more than {MAX_MESSAGES} messages")
    check_kept(messages)
    if len(context) > MAX_CONTEXT:
        raise TooLarge("too_large", f"the batch's context has {len(context)} bytes: at most {MAX_CONTEXT}")
    said = None if context == b"null" else read(context)
    kept = without_tokens(_encode(said)) if said and isinstance(said, dict) else b""
    return Batch(messages, _text(write_key), _small(sent_at), kept)


def is_flat(raw: bytes) -> bool:
    """Return whether a message cannot nest too deeply. Raises InvalidMessage when it is too large."""
    if len(raw) > MAX_EVENT:
        raise InvalidMessage("too_large", f"the message has {len(raw)} bytes: at most {MAX_EVENT}")
    return raw.count(b"{") + raw.count(b"[") <= MAX_DEPTH


def is_plain(raw: bytes) -> bool:
    """Return whether JSON, one message or many, has no NUL and no integer beyond 64 bits: no store takes these."""
    if b"\\" in raw and b"\\u0000" in raw:
        return False
    return _LONG not in raw.translate(_ZEROS) or _LONG_NUMBER.search(raw) is None


def read(raw: bytes) -> Any:
    """Decode one message and clean it. Raises InvalidMessage when it is too large, too deep or has NaN."""
    clean = is_flat(raw) and is_plain(raw)
    try:
        message = _any.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        message, clean = _loads(raw), False
    return message if clean else _clean(message, MAX_DEPTH)


def document(raw: bytes) -> Any:
    """Decode a whole body that is no call of ours. Raises InvalidMessage when it is no JSON."""
    try:
        return _any.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _loads(raw)


def written(event: Any) -> bytes:
    """Return a part of a document as JSON again, as a dead letter keeps it."""
    try:
        return _encode(event)
    except (TypeError, ValueError, OverflowError, UnicodeEncodeError, RecursionError):
        return _dumped(event)


def _loads(raw: bytes) -> Any:
    try:
        return json.loads(raw.decode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise InvalidMessage("bad_json", f"the message is not JSON: {error}") from None


def _clean(value: Any, depth: int) -> Any:
    if depth < 0:
        raise InvalidMessage("too_deep", f"the message nests deeper than {MAX_DEPTH}")
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", "\ufffd")
    if isinstance(value, dict):
        return {_clean(k, depth): _clean(v, depth - 1) for k, v in value.items()}
    if isinstance(value, list):
        return [_clean(v, depth - 1) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidMessage("bad_number", "the message holds NaN or an infinity")
    if isinstance(value, int) and abs(value) >= 1 << 63:
        raise InvalidMessage("bad_number", "the message holds an integer beyond 64 bits")
    return value


def _dumped(message: Any) -> bytes:
    try:
        return json.dumps(message, ensure_ascii=True, separators=(",", ":")).encode()
    except RecursionError:
        return b'"nested too deeply"'


def _small(value: Any) -> Any:
    """Return what may be a time; it is repeated for every message, so nothing longer than one passes."""
    if isinstance(value, str):
        return _clean(value[:MAX_TIME], 0)
    return value if value is None or isinstance(value, int | float) else "no time"


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
