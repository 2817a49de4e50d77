"""A request's body split into messages, so that a bad message does not affect the others."""

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from libs.common.errors import InvalidMessage
from services.ingest.domain import json_body
from services.ingest.domain.privacy import strip_link_tokens

MAX_CONTEXT = 16 * 1024
MAX_REPEATED = 16 * 1024 * 1024
"""Bytes of the batch's context, counted once for each message."""
MAX_MESSAGES = 5_000
MAX_TIME = 64
S = TypeVar("S", bound="_Defaults")


class MessageBatch(msgspec.Struct, frozen=True):
    """The messages of a request as JSON, and the fields that apply to all of them."""

    messages: list[bytes] = []
    write_key: str | None = None
    sent_at: str | None = None
    context: bytes = b""
    """A clean object as JSON; empty if there is none."""


class _Defaults(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    write_key: Any = None
    sent_at: Any = None
    context: msgspec.Raw = msgspec.Raw(b"null")


class _Messages(_Defaults, frozen=True, gc=False, rename="camel", kw_only=True):
    batch: list[msgspec.Raw]


_messages_decoder = msgspec.json.Decoder(_Messages)
_defaults_decoder = msgspec.json.Decoder(_Defaults)


def parse_batch(raw: bytes, *, is_batch: bool) -> MessageBatch:
    """Split a body. Raises InvalidMessage when the whole is unreadable or has the wrong shape."""
    try:
        if not is_batch:
            return MessageBatch(
                [_single_message(raw)], _text(_decode(_defaults_decoder, raw).write_key)
            )
        whole = _decode(_messages_decoder, raw)
    except json_body.DECODE_ERRORS:
        return _split_leniently(raw, is_batch=is_batch)
    return _batch_of(whole, whole.batch)


def _decode(decoder: msgspec.json.Decoder[S], raw: bytes) -> S:
    try:
        return decoder.decode(raw)
    except json_body.DECODE_ERRORS:  # for a lone surrogate, say
        return decoder.decode(json_body.normalise_escapes(raw))


def _split_leniently(raw: bytes, *, is_batch: bool) -> MessageBatch:
    """Split a body that the strict decoder refuses but Python's accepts."""
    whole = json_body.decode_document(raw)
    if not isinstance(whole, dict):
        raise InvalidMessage(
            "bad_shape", f"the body is a JSON {type(whole).__name__}: an object is needed"
        )
    if not is_batch:
        return MessageBatch(
            [_single_message(json_body.encode_lenient(whole))], _text(whole.get("writeKey"))
        )
    messages = whole.get("batch")
    if not isinstance(messages, list):
        raise InvalidMessage("bad_shape", "the body needs a list named batch")
    defaults = _Defaults(
        whole.get("writeKey"),
        whole.get("sentAt"),
        msgspec.Raw(json_body.encode_lenient(whole.get("context"))),
    )
    return _batch_of(
        defaults, [json_body.encode_lenient(message) for message in messages[: MAX_MESSAGES + 1]]
    )


def _single_message(message: bytes) -> bytes:
    """Return the message of a request with one. Raises BodyTooLarge."""
    if len(message) > json_body.MAX_EVENT:
        raise json_body.BodyTooLarge(
            "too_large", f"the message has {len(message)} bytes: at most {json_body.MAX_EVENT}"
        )
    return message


def _batch_of(defaults: _Defaults, messages: Sequence[bytes | msgspec.Raw]) -> MessageBatch:
    """Return the batch within its limits; its context counts once for each message."""
    if len(messages) > MAX_MESSAGES:
        raise json_body.BodyTooLarge("too_many", f"the batch has more than {MAX_MESSAGES} messages")
    raw_messages = [bytes(message) for message in messages]
    json_body.check_dead_letter_sizes(raw_messages)
    context = _context(bytes(defaults.context))
    if len(context) * len(raw_messages) > MAX_REPEATED:
        raise json_body.BodyTooLarge(
            "too_large",
            f"the batch's context, repeated for each message, has more than {MAX_REPEATED} bytes",
        )
    return MessageBatch(raw_messages, _text(defaults.write_key), _time(defaults.sent_at), context)


def _context(raw: bytes) -> bytes:
    """Return the context of a batch as clean JSON, whose size counts. Raises BodyTooLarge."""
    _check_context(raw, json_body.MAX_EVENT)
    context = json_body.decode_clean(raw)
    clean = (
        strip_link_tokens(json_body.encode_json(context))
        if context and isinstance(context, dict)
        else b""
    )
    _check_context(clean, MAX_CONTEXT)
    return clean


def _check_context(context: bytes, most: int) -> None:
    if len(context) > most:
        raise json_body.BodyTooLarge(
            "too_large", f"the batch's context has {len(context)} bytes: at most {MAX_CONTEXT}"
        )


def _time(value: Any) -> str | None:
    """Return a time as text, cut off at MAX_TIME, since every message repeats it."""
    return json_body.clean_value(value[:MAX_TIME]) if isinstance(value, str) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
