"""What the door says of a call, as whoever reads the topic has it."""

from libs.common.messages import Touchpoint, decode
from services.ingest.domain.call import Call
from services.ingest.domain.normalise import normalise
from services.ingest.domain.received import Received
from services.ingest.handlers.telling import message_of


def as_read(call: Call, received: Received) -> Touchpoint:
    """Return the touchpoint of a call, read from its message. Raises InvalidMessage when it is none."""
    return decode(Touchpoint, message_of(normalise(call, received)).value)
