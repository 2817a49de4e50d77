"""What is made of a request's messages: of each its calls, and of each call a touchpoint's message, by what it is known by."""

from collections.abc import Callable

from libs.common.errors import InvalidMessage
from libs.common.kafka.wire.encoded_record import AnyMessage
from libs.common.messages import Message
from services.ingest.domain.batch import Batch
from services.ingest.domain.call import Call, read_call
from services.ingest.domain.fast import Fast
from services.ingest.domain.frames import FrameStore
from services.ingest.domain.normalise import normalise
from services.ingest.domain.received import Received
from services.ingest.domain.recent import MessageId, place_of
from services.ingest.handlers.adapted import calls_of
from services.ingest.handlers.telling import message_of, refusal

AT_A_STRETCH = 64 * 1024
"""Bytes of messages that are read before others have their turn."""
AT_LEAST = 256
"""What a message counts, however short it is, beside what its batch says."""
SAID_AGAIN = 1_000_000
"""Bytes that the letters of one request may repeat of what their batch said."""


class Reading:
    """The messages of a request, and what was read of them."""

    def __init__(self, received: Received, calls: Callable[[bytes], list[Call]], fast: Fast | None = None) -> None:
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
        self._each = AT_LEAST + len(received.said.context)

    def stretch(self, messages: list[bytes], at: int) -> int:
        """Read from a place on and return where others have their turn, or the end."""
        room = AT_A_STRETCH
        while True:
            if self._fast is not None:
                begin = at
                at, room = self._fast.take_on(messages, at, room, self._each, self.touchpoints)
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
            whole = len(self.refused) * len(received.said.context) < SAID_AGAIN
            self.refused.append(refusal(raw, error, received, whole=whole))
            return
        self.count += len(found)
        for place, message in found:
            self.touchpoints.setdefault(place, message)


def _message_of(call: Call, received: Received) -> tuple[MessageId, Message]:
    touchpoint = normalise(call, received)
    place = place_of(touchpoint.workspace, touchpoint.source, touchpoint.message_id)
    return place, message_of(touchpoint, received.trace)


def tracking(received: Received, batch: Batch, frames: FrameStore | None) -> Reading:
    """Return what reads a tracking request; the plain calls of it by their `frames`, where there are any."""
    shared = frames.of(received) if frames is not None and batch.is_text else None
    return Reading(received, lambda raw: [read_call(raw)], None if shared is None else Fast(received, shared))


def adapted(name: str, received: Received) -> Reading:
    """Return what reads an adapter's events."""
    return Reading(received, lambda event: calls_of(name, received.source, event))
