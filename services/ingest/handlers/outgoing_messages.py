"""Outgoing messages of ingest: touchpoints, and dead letters with everything a replay needs."""

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

_REMOVED = re.compile(
    rb'"(writeKey|linkToken|ip|ipAddress|ip_address|clientIp|client_ip|remoteAddress)"'
    rb'\s*:\s*"(?:[^"\\]|\\.)*"',
    re.IGNORECASE,
)
"""Fields that dead letters do not keep: write keys, which some SDKs repeat in every event, link
tokens and IP addresses.
"""
_encode = msgspec.json.Encoder().encode


def touchpoint_message(touchpoint: Touchpoint, trace: bytes | None = None) -> Message:
    """Return a touchpoint's message.

    Raises InvalidMessage when it is too large: numbers may grow when they are encoded.
    """
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
    """Return the dead letter of a refused message; its key is the id for a message without one.

    A `whole` dead letter has the batch's defaults; of a batch with many dead letters only the first
    ones have them, the others are marked. A `document` is an adapter's whole body, not yet split
    into events.
    """
    details = {
        "where": f"{received.source.workspace}/{received.source.name}",
        "at": str(received.received_at),
        "type": received.call_type or "",
        "adapter": received.adapter,
        "whole": "yes" if document else "",
        "lacks": "" if whole or not received.batch_defaults.context else "context",
    }
    return _dead_letter(
        raw,
        received.new_id().encode(),
        error,
        details,
        _encode_defaults(received.batch_defaults) if whole else b"",
    )


class _StoredDefaults(msgspec.Struct, frozen=True, rename="camel"):
    sent_at: Any = None
    context: msgspec.Raw = msgspec.Raw(b"{}")


def _encode_defaults(defaults: BatchDefaults) -> bytes:
    """Encode a batch's defaults for a dead letter."""
    if defaults.sent_at is None and not defaults.context:
        return b""
    context = msgspec.Raw(defaults.context or b"{}")
    return _remove_secrets(_encode(_StoredDefaults(defaults.sent_at, context)))


def parse_batch_defaults(stored: str) -> BatchDefaults:
    """Parse the batch's defaults of a dead letter; "" has none. Raises InvalidMessage."""
    try:
        defaults = msgspec.json.decode(stored or "{}", type=_StoredDefaults)
    except json_body.DECODE_ERRORS as error:
        raise InvalidMessage(
            "bad_letter", f"the batch's defaults are unreadable: {error}"
        ) from None
    context = bytes(defaults.context)
    return BatchDefaults(
        defaults.sent_at if isinstance(defaults.sent_at, str) else None,
        b"" if context == b"{}" else context,
    )


def _remove_secrets(raw: bytes) -> bytes:
    """Return JSON without the fields that dead letters do not keep."""
    return _REMOVED.sub(rb'"\1":null', strip_link_tokens(raw))


def broker_refusal_message(message: AnyMessage, error: InvalidMessage) -> Message:
    """Return the dead letter of a touchpoint that the broker refused."""
    return _dead_letter(message.value or b"", message.key, error, {"where": BROKER_ERROR})


def _dead_letter(
    raw: bytes, key: bytes, error: InvalidMessage, details: dict[str, str], batch: bytes = b""
) -> Message:
    metrics.EVENTS_REFUSED.labels(reason=error.reason).inc()
    values = {
        "reason": error.reason,
        "error": _remove_secrets(error.detail[:500].encode("utf-8", "replace")).decode(),
        **details,
    }
    headers = [
        (f"{HEADER_PREFIX}{name}", text.encode("utf-8", "replace")) for name, text in values.items()
    ]
    if batch:
        headers.append((f"{HEADER_PREFIX}batch", batch))
    return Message("touchpoints-dlq", key, _remove_secrets(raw), headers)
