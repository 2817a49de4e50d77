"""Messages of a request, read into touchpoints by deduplication key and dead letters."""

from collections.abc import Callable

import msgspec

from libs.common.errors import InvalidMessage
from libs.common.kafka.wire.encoded_record import AnyMessage
from libs.common.messages import Message
from services.ingest.domain.deduplication_window import MessageId, deduplication_key
from services.ingest.domain.normalise import normalise
from services.ingest.domain.request_context import RequestContext
from services.ingest.domain.tracking_call import TrackingCall, parse_call
from services.ingest.fastpath.encoder import FastEncoder
from services.ingest.fastpath.template_cache import TemplateCache
from services.ingest.handlers.adapter_calls import convert_adapter_event
from services.ingest.handlers.outgoing_messages import dead_letter_message, touchpoint_message

SLICE_BYTES = 64 * 1024
"""Bytes of messages that are read before other requests get the event loop."""
MIN_MESSAGE_BYTES = 256
"""Bytes of a slice that each message counts beside its own and those of its batch's context."""
REPEATED_BYTES = 1_000_000
"""Bytes of the batch's context that the dead letters of one request may repeat."""


class MessageReader:
    """Reader of one request's messages, with its results so far."""

    def __init__(
        self,
        received: RequestContext,
        parse: Callable[[bytes], list[TrackingCall]],
        fast: FastEncoder | None = None,
    ) -> None:
        """`parse` returns the calls of a message or raises InvalidMessage."""
        self.touchpoints: dict[MessageId, AnyMessage] = {}
        """Of messages with the same id in one request, the first."""
        self.refused: list[Message] = []
        """Dead letters, one for each message with a refused call; it has no touchpoint then."""
        self.count = 0
        """Number of touchpoints, with the repeated ones."""
        self._received = received
        self._parse = parse
        self._fast = fast
        self._cost_each = MIN_MESSAGE_BYTES + len(received.batch_defaults.context)

    def read_slice(self, messages: list[bytes], at: int) -> int:
        """Read messages from an index on, SLICE_BYTES of them, and return the index of the next."""
        budget = SLICE_BYTES
        while at < len(messages) and budget > 0:
            raw = messages[at]
            self._read(raw)
            budget -= self._cost_each + len(raw)
            at += 1
        return at

    def _read(self, raw: bytes) -> None:
        encoded = None if self._fast is None else self._fast.encode(raw)
        if encoded is not None:
            self.count += 1
            self.touchpoints.setdefault(*encoded)
            return
        try:
            messages = [self._normalise(call) for call in self._parse(raw)]
        except InvalidMessage as error:
            context_bytes = len(self._received.batch_defaults.context)
            whole = len(self.refused) * context_bytes < REPEATED_BYTES
            self.refused.append(dead_letter_message(raw, error, self._received, whole=whole))
            return
        self.count += len(messages)
        for message_id, message in messages:
            self.touchpoints.setdefault(message_id, message)

    def _normalise(self, call: TrackingCall) -> tuple[MessageId, AnyMessage]:
        received = self._received
        touchpoint = normalise(call, received)
        message_id = deduplication_key(
            touchpoint.workspace, touchpoint.source, touchpoint.message_id
        )
        return message_id, touchpoint_message(touchpoint, received.trace)


class FastPath(msgspec.Struct, frozen=True):
    """Settings of the fast path; `wire_encoding` encodes its messages as records at once."""

    templates: TemplateCache
    wire_encoding: bool = True


def tracking_reader(received: RequestContext, fast_path: FastPath | None) -> MessageReader:
    """Return the reader of a tracking request; without `fast_path` all calls are normalised.

    So are those of a source with default properties, or with a hash that each user id needs.
    """
    source = received.source
    fast = None
    if fast_path is not None and source.user_hash_secret is None and not source.defaults:
        fast = FastEncoder(received, fast_path.templates, wire_encoding=fast_path.wire_encoding)
    return MessageReader(received, lambda raw: [parse_call(raw)], fast)


def adapter_reader(name: str, received: RequestContext) -> MessageReader:
    """Return the reader of an adapter's events."""
    return MessageReader(
        received, lambda event: convert_adapter_event(name, received.source, event)
    )
