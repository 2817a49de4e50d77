"""What the door says of a call, as whoever reads the topic has it."""

import json

from libs.common.messages import Touchpoint, decode_value
from libs.common.messages.envelope import Headers
from services.ingest.domain.deduplication_window import MessageId
from services.ingest.domain.json_body import is_utf8
from services.ingest.domain.message_batch import MessageBatch
from services.ingest.domain.normalise import normalise
from services.ingest.domain.request_context import RequestContext
from services.ingest.domain.tracking_call import TrackingCall
from services.ingest.fastpath.template_cache import TemplateCache
from services.ingest.handlers.message_reader import tracking_reader
from services.ingest.handlers.outgoing_messages import touchpoint_message


class WarmTemplateCache(TemplateCache):
    """Frames from the first call on."""

    def was_seen_before(self, known: int) -> bool:
        super().was_seen_before(known)
        return super().was_seen_before(known)


def touchpoint_of_call(call: TrackingCall, received: RequestContext) -> Touchpoint:
    """Return the touchpoint of a call, read from its message. Raises InvalidMessage when it is none."""
    return decode_value(Touchpoint, touchpoint_message(normalise(call, received)).value)


def encode_both_ways(
    raw: bytes, received: RequestContext, frames: TemplateCache | None
) -> tuple[MessageId, bytes, Headers, Touchpoint] | None:
    """Return what is made of a message, its touchpoint as whoever reads the topic has it; None where it is refused."""
    reading = tracking_reader(received, MessageBatch([raw], is_text=is_utf8(raw)), frames)
    assert reading.read_slice([raw], 0) == 1
    if reading.refused:
        return None
    ((place, message),) = reading.touchpoints.items()
    assert not [
        name for name, value in json.loads(message.value or b"").items() if value in ("", {}, None)
    ]
    return place, message.key, message.headers, decode_value(Touchpoint, message.value)


def touchpoint_of_message(raw: bytes, received: RequestContext) -> Touchpoint | None:
    """Return the touchpoint of a message, which is the same whether it is read by its frame or not; None where it is refused."""
    slow, fast = (
        encode_both_ways(raw, received, None),
        encode_both_ways(raw, received, WarmTemplateCache()),
    )
    assert fast == slow
    return None if slow is None else slow[-1]
