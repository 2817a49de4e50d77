"""What is made of a request's messages: of each its calls, and of each call a touchpoint's message, by what it is known by."""

from collections.abc import Callable

from libs.common.errors import InvalidMessage
from libs.common.kafka.wire.encoded_record import AnyMessage
from libs.common.messages import Message
from services.ingest.domain.deduplication_window import MessageId, deduplication_key
from services.ingest.domain.message_batch import MessageBatch
from services.ingest.domain.normalise import normalise
from services.ingest.domain.request_context import RequestContext
from services.ingest.domain.tracking_call import TrackingCall, parse_call
from services.ingest.fastpath.encoder import FastEncoder
from services.ingest.fastpath.template_cache import TemplateCache
from services.ingest.handlers.adapter_calls import convert_adapter_event
from services.ingest.handlers.outgoing_messages import dead_letter_message, touchpoint_message

SLICE_BYTES = 64 * 1024
"""Bytes of messages that are read before others have their turn."""
MIN_MESSAGE_BYTES = 256
"""What a message counts, however short it is, beside what its batch says."""
REPEATED_BYTES = 1_000_000
"""Bytes that the letters of one request may repeat of what their batch said."""


class MessageReader:
    """The messages of a request, and what was read of them."""

    def __init__(
        self,
        received: RequestContext,
        calls: Callable[[bytes], list[TrackingCall]],
        fast: FastEncoder | None = None,
    ) -> None:
        """`calls` are those of a message, which raises InvalidMessage; `fast` reads those that are plain."""
        self.touchpoints: dict[MessageId, AnyMessage] = {}
        """Without those that say again what another of the request says."""
        self.refused: list[Message] = []
        """Dead letters: of each message that has a call that is refused, one, and no touchpoint."""
        self.count = 0
        """Of touchpoints, with those that say it again."""
        self._received = received
        self._calls = calls
        self._fast = fast
        self._each = MIN_MESSAGE_BYTES + len(received.batch_defaults.context)

    def read_slice(self, messages: list[bytes], at: int) -> int:
        """Read from a place on and return where others have their turn, or the end."""
        room = SLICE_BYTES
        while True:
            if self._fast is not None:
                begin = at
                at, room = self._fast.encode_messages(
                    messages, at, room, self._each, self.touchpoints
                )
                self.count += at - begin
            if at == len(messages) or room <= 0:
                return at
            self._take(messages[at])
            room -= self._each + len(messages[at])
            at += 1

    def _take(self, raw: bytes) -> None:
        received = self._received
        try:
            found = [_message_of(call, received) for call in self._calls(raw)]
        except InvalidMessage as error:
            whole = len(self.refused) * len(received.batch_defaults.context) < REPEATED_BYTES
            self.refused.append(dead_letter_message(raw, error, received, whole=whole))
            return
        self.count += len(found)
        for place, message in found:
            self.touchpoints.setdefault(place, message)


def _message_of(call: TrackingCall, received: RequestContext) -> tuple[MessageId, Message]:
    touchpoint = normalise(call, received)
    place = deduplication_key(touchpoint.workspace, touchpoint.source, touchpoint.message_id)
    return place, touchpoint_message(touchpoint, received.trace)


def tracking_reader(
    received: RequestContext, batch: MessageBatch, frames: TemplateCache | None
) -> MessageReader:
    """Return what reads a tracking request; the plain calls of it by their `frames`, where there are any."""
    shared = frames.templates_for(received) if frames is not None and batch.is_text else None
    return MessageReader(
        received,
        lambda raw: [parse_call(raw)],
        None if shared is None else FastEncoder(received, shared),
    )


def adapter_reader(name: str, received: RequestContext) -> MessageReader:
    """Return what reads an adapter's events."""
    return MessageReader(
        received, lambda event: convert_adapter_event(name, received.source, event)
    )
