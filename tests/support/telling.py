"""What the door says of a call, as whoever reads the topic has it."""

import json

from libs.common.messages import Touchpoint, decode_value
from libs.common.messages.envelope import Headers
from services.ingest.domain.batch import Batch
from services.ingest.domain.body import is_text
from services.ingest.domain.call import Call
from services.ingest.domain.frames import FrameStore
from services.ingest.domain.normalise import normalise
from services.ingest.domain.received import Received
from services.ingest.domain.recent import MessageId
from services.ingest.handlers.reading import tracking
from services.ingest.handlers.telling import message_of


class Met(FrameStore):
    """Frames from the first call on."""

    def meet(self, known: int) -> bool:
        super().meet(known)
        return super().meet(known)


def as_read(call: Call, received: Received) -> Touchpoint:
    """Return the touchpoint of a call, read from its message. Raises InvalidMessage when it is none."""
    return decode_value(Touchpoint, message_of(normalise(call, received)).value)


def ways(
    raw: bytes, received: Received, frames: FrameStore | None
) -> tuple[MessageId, bytes, Headers, Touchpoint] | None:
    """Return what is made of a message, its touchpoint as whoever reads the topic has it; None where it is refused."""
    reading = tracking(received, Batch([raw], is_text=is_text(raw)), frames)
    assert reading.stretch([raw], 0) == 1
    if reading.refused:
        return None
    ((place, message),) = reading.touchpoints.items()
    assert not [name for name, value in json.loads(message.value or b"").items() if value in ("", {}, None)]
    return place, message.key, message.headers, decode_value(Touchpoint, message.value)


def came(raw: bytes, received: Received) -> Touchpoint | None:
    """Return the touchpoint of a message, which is the same whether it is read by its frame or not; None where it is refused."""
    slow, fast = ways(raw, received, None), ways(raw, received, Met())
    assert fast == slow
    return None if slow is None else slow[-1]
