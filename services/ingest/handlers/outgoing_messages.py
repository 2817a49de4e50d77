"""What the door says: touchpoints, and dead letters that hold all that is needed to try again."""

import re
from typing import Any

import msgspec

from libs.common.errors import InvalidMessage
from libs.common.kafka.wire.encoded_record import AnyMessage
from libs.common.messages import Message, Touchpoint, build_message
from libs.common.observability import metrics
from services.ingest.domain import json_body
from services.ingest.domain.dead_letter import BROKER_ERROR, HEADER_PREFIX
from services.ingest.domain.privacy import strip_link_tokens
from services.ingest.domain.request_context import BatchDefaults, RequestContext

_NOT_KEPT = re.compile(
    rb'"(writeKey|linkToken|ip|ipAddress|ip_address|clientIp|client_ip|remoteAddress)"\s*:\s*"(?:[^"\\]|\\.)*"',
    re.IGNORECASE,
)
"""Some libraries repeat the key in every event; neither it, nor tokens, nor addresses are for those who read dead letters."""
_encode = msgspec.json.Encoder().encode


def touchpoint_message(touchpoint: Touchpoint, trace: bytes | None = None) -> Message:
    """Return the touchpoint's message. Raises InvalidMessage when it is too large: numbers may grow as they are written."""
    message = build_message(
        touchpoint,
        key=touchpoint.routing_key(),
        message_id=f"{touchpoint.source}:{touchpoint.message_id}",
        source=f"/ingest/{touchpoint.source}",
        time=touchpoint.occurred_at,
        trace=trace,
    )
    size = len(message.value or b"")
    if size > json_body.MAX_DEAD_LETTER:
        raise InvalidMessage(
            "too_large", f"the touchpoint has {size} bytes: at most {json_body.MAX_DEAD_LETTER}"
        )
    return message


def dead_letter_message(
    raw: bytes,
    error: InvalidMessage,
    received: RequestContext,
    *,
    whole: bool = True,
    document: bool = False,
) -> Message:
    """Return the dead letter of a call that is no touchpoint; its key is the id that a message without one gets.

    With what the batch said for all if it is `whole`: many letters of a batch would say the same thousands of times; one that
    lacks it says so. A `document` is all that came for an adapter, not yet split into events.
    """
    said = {
        "where": f"{received.source.workspace}/{received.source.name}",
        "at": str(received.received_at),
        "type": received.call_type or "",
        "adapter": received.adapter,
        "whole": "yes" if document else "",
        "lacks": "" if whole or not received.batch_defaults.context else "context",
    }
    return _letter(
        raw,
        received.new_id().encode(),
        error,
        said,
        _batch(received.batch_defaults) if whole else b"",
    )


class _BatchKept(msgspec.Struct, frozen=True, rename="camel"):
    sent_at: Any = None
    context: msgspec.Raw = msgspec.Raw(b"{}")


def _batch(said: BatchDefaults) -> bytes:
    """Return what a batch says for all its messages, as a dead letter keeps it."""
    if said.sent_at is None and not said.context:
        return b""
    return _kept(_encode(_BatchKept(said.sent_at, msgspec.Raw(said.context or b"{}"))))


def parse_batch_defaults(kept: str) -> BatchDefaults:
    """Return what a dead letter keeps of its batch; empty: nothing. Raises InvalidMessage for what is none of ours."""
    try:
        said = msgspec.json.decode(kept or "{}", type=_BatchKept)
    except json_body.DECODE_ERRORS as error:
        raise InvalidMessage(
            "bad_letter", f"what it says of its batch cannot be read: {error}"
        ) from None
    context = bytes(said.context)
    return BatchDefaults(
        said.sent_at if isinstance(said.sent_at, str) else None,
        b"" if context == b"{}" else context,
    )


def _kept(raw: bytes) -> bytes:
    """Return what is kept of JSON that somebody sent."""
    return _NOT_KEPT.sub(rb'"\1":null', strip_link_tokens(raw))


def broker_refusal_message(message: AnyMessage, error: InvalidMessage) -> Message:
    """Return the dead letter of a touchpoint that the broker never takes."""
    return _letter(message.value or b"", message.key, error, {"where": BROKER_ERROR})


def _letter(
    raw: bytes, key: bytes, error: InvalidMessage, said: dict[str, str], batch: bytes = b""
) -> Message:
    metrics.EVENTS_REFUSED.labels(reason=error.reason).inc()
    about = {
        "reason": error.reason,
        "error": _kept(error.detail[:500].encode("utf-8", "replace")).decode(),
        **said,
    }
    headers = [
        (f"{HEADER_PREFIX}{name}", text.encode("utf-8", "replace")) for name, text in about.items()
    ]
    if batch:
        headers.append((f"{HEADER_PREFIX}batch", batch))
    return Message("touchpoints-dlq", key, _kept(raw), headers)
