"""A request's body as messages, each by itself, so that one bad message costs no other."""

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from libs.common.errors import InvalidMessage
from services.ingest.domain import json_body
from services.ingest.domain.privacy import strip_link_tokens

MAX_CONTEXT = 16 * 1024
MAX_REPEATED = 16 * 1024 * 1024
"""Bytes that all messages of a batch may get by what it says for all."""
MAX_MESSAGES = 5_000
MAX_TIME = 64
S = TypeVar("S", bound="_Said")


class MessageBatch(msgspec.Struct, frozen=True):
    """A request: its messages, each by itself as JSON, and what it says for all."""

    messages: list[bytes] = []
    write_key: str | None = None
    sent_at: str | None = None
    context: bytes = b""
    """An object as JSON, clean; empty where none is said."""


class _Said(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    write_key: Any = None
    sent_at: Any = None
    context: msgspec.Raw = msgspec.Raw(b"null")


class _Messages(_Said, frozen=True, gc=False, rename="camel", kw_only=True):
    batch: list[msgspec.Raw]


_messages = msgspec.json.Decoder(_Messages)
_said = msgspec.json.Decoder(_Said)


def parse_batch(raw: bytes, *, is_batch: bool) -> MessageBatch:
    """Read a body. Raises InvalidMessage when the whole is unreadable or has the wrong shape."""
    try:
        if not is_batch:
            return MessageBatch([_one(raw)], _text(_decoded(_said, raw).write_key))
        whole = _decoded(_messages, raw)
    except json_body.DECODE_ERRORS:
        return _split_slowly(raw, is_batch=is_batch)
    return _batch_of(whole, whole.batch)


def _decoded(decoder: msgspec.json.Decoder[S], raw: bytes) -> S:
    try:
        return decoder.decode(raw)
    except json_body.DECODE_ERRORS:  # for half of a surrogate pair, say
        return decoder.decode(json_body.normalise_escapes(raw))


def _split_slowly(raw: bytes, *, is_batch: bool) -> MessageBatch:
    """Split what the strict decoder refuses but Python's accepts."""
    whole = json_body.decode_document(raw)
    if not isinstance(whole, dict):
        raise InvalidMessage(
            "bad_shape", f"the body is a JSON {type(whole).__name__}: an object is needed"
        )
    if not is_batch:
        return MessageBatch([_one(json_body.encode_lenient(whole))], _text(whole.get("writeKey")))
    messages = whole.get("batch")
    if not isinstance(messages, list):
        raise InvalidMessage("bad_shape", "the body needs a list named batch")
    said = _Said(
        whole.get("writeKey"),
        whole.get("sentAt"),
        msgspec.Raw(json_body.encode_lenient(whole.get("context"))),
    )
    return _batch_of(
        said, [json_body.encode_lenient(message) for message in messages[: MAX_MESSAGES + 1]]
    )


def _one(message: bytes) -> bytes:
    """Return the one message of a request. Raises BodyTooLarge: whoever sends one by one can be told."""
    if len(message) > json_body.MAX_EVENT:
        raise json_body.BodyTooLarge(
            "too_large", f"the message has {len(message)} bytes: at most {json_body.MAX_EVENT}"
        )
    return message


def _batch_of(said: _Said, messages: Sequence[bytes | msgspec.Raw]) -> MessageBatch:
    """Return the batch within its limits: what it says for all is multiplied by the number of its messages."""
    if len(messages) > MAX_MESSAGES:
        raise json_body.BodyTooLarge("too_many", f"the batch has more than {MAX_MESSAGES} messages")
    came = [bytes(message) for message in messages]
    json_body.check_dead_letter_sizes(came)
    context = _context(bytes(said.context))
    if len(context) * len(came) > MAX_REPEATED:
        raise json_body.BodyTooLarge(
            "too_large",
            f"what the batch says for all, for each message, is more than {MAX_REPEATED} bytes",
        )
    return MessageBatch(came, _text(said.write_key), _time(said.sent_at), context)


def _context(raw: bytes) -> bytes:
    """Return the context of a batch as JSON, clean. Raises BodyTooLarge: however it was written, it is measured as it goes on."""
    _check_context(raw, json_body.MAX_EVENT)
    context = json_body.decode_clean(raw)
    found = (
        strip_link_tokens(json_body.encode_json(context))
        if context and isinstance(context, dict)
        else b""
    )
    _check_context(found, MAX_CONTEXT)
    return found


def _check_context(context: bytes, most: int) -> None:
    if len(context) > most:
        raise json_body.BodyTooLarge(
            "too_large", f"the batch's context has {len(context)} bytes: at most {MAX_CONTEXT}"
        )


def _time(value: Any) -> str | None:
    """Return what may be a time; it is repeated for every message, so nothing longer than one passes."""
    return json_body.clean_value(value[:MAX_TIME]) if isinstance(value, str) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
