"""Decoding of Kafka records into touchpoints, or into dead letters."""

import asyncio
import re
from collections.abc import Sequence

from libs.common.errors import InvalidMessage
from libs.common.kafka.dead_letters import build_dead_letter
from libs.common.kafka.record import Record
from libs.common.messages import Message, Touchpoint, decode_value, event_type_of, traceparent_of
from libs.common.observability import metrics
from libs.common.observability.tracing import validate_traceparent
from services.scoring.repository.touchpoints import StoredTouchpoint, prepare_touchpoint

RECORDS_PER_YIELD = 2_000
"""Records decoded before the event loop gets control, for Kafka's heartbeats."""
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
"""A NUL as JSON escapes it; after an even number of backslashes it is text."""


async def decode_records(
    records: Sequence[Record],
) -> tuple[list[StoredTouchpoint], list[Message]]:
    """Return the decoded touchpoints, and a dead letter for each record that is invalid."""
    touchpoints, dead_letters = [], []
    for number, record in enumerate(records):
        if number % RECORDS_PER_YIELD == RECORDS_PER_YIELD - 1:
            await asyncio.sleep(0)
        try:
            touchpoints.append(_decode_record(record))
        except InvalidMessage as error:
            metrics.DEAD_LETTERS.labels(service="scoring", reason=error.reason).inc()
            dead_letters.append(build_dead_letter("scoring", record, error))
    return touchpoints, dead_letters


def _decode_record(record: Record) -> StoredTouchpoint:
    kind = event_type_of(record.headers)
    if kind and kind != Touchpoint.KIND:
        raise InvalidMessage("unknown_version", f"{kind}: this scoring reads {Touchpoint.KIND}")
    touchpoint = decode_value(Touchpoint, record.value)
    raw = record.value or b""
    if b"\0" in raw or (b"\\u0000" in raw and _NUL.search(raw)):
        raise InvalidMessage("nul", "the touchpoint contains a NUL character")
    if not 0 <= touchpoint.occurred_at < 1 << 53 or not 0 <= touchpoint.received_at < 1 << 53:
        raise InvalidMessage("bad_time", "occurred_at or received_at is out of range")
    return prepare_touchpoint(touchpoint, raw, validate_traceparent(traceparent_of(record.headers)))
