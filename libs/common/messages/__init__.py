"""Messages on the topics: one frozen model per event type, which includes the version.

Instants are integers, microseconds since 1970 UTC; the `ce_time` header repeats the main instant of
a message as RFC 3339.
"""

from libs.common.messages.action import Action
from libs.common.messages.compelling_event import CompellingEvent
from libs.common.messages.contact import ContactSnapshot
from libs.common.messages.envelope import (
    Message,
    build_message,
    decode_value,
    event_type_of,
    traceparent_of,
)
from libs.common.messages.signal import Signal
from libs.common.messages.stage_change import (
    AccountStageChange,
    AxisChange,
    Cause,
    StageChange,
    StageMove,
)
from libs.common.messages.touchpoint import Touchpoint

MODELS = (
    Touchpoint,
    StageChange,
    AccountStageChange,
    Signal,
    CompellingEvent,
    ContactSnapshot,
    Action,
)

__all__ = [
    "MODELS",
    "AccountStageChange",
    "Action",
    "AxisChange",
    "Cause",
    "CompellingEvent",
    "ContactSnapshot",
    "Message",
    "Signal",
    "StageChange",
    "StageMove",
    "Touchpoint",
    "build_message",
    "decode_value",
    "event_type_of",
    "traceparent_of",
]
