"""Which messages a subscriber wants: the same choice for webhooks and for who reads by cursor."""

from typing import Literal

import msgspec

from libs.common.messages.compelling_event import CompellingEvent
from libs.common.messages.envelope import decode_value
from libs.common.messages.signal import Signal
from libs.common.messages.stage_change import AccountStageChange, StageChange

MessageType = Literal["stage_change", "account_stage_change", "signal", "compelling_event"]
FilteredMessage = StageChange | AccountStageChange | Signal | CompellingEvent
MESSAGE_TYPES: dict[str, MessageType] = {
    StageChange.KIND: "stage_change",
    AccountStageChange.KIND: "account_stage_change",
    Signal.KIND: "signal",
    CompellingEvent.KIND: "compelling_event",
}
"""What a subscriber calls a message, by its event type."""
_MODELS: dict[str, type[FilteredMessage]] = {
    model.KIND: model for model in (StageChange, AccountStageChange, Signal, CompellingEvent)
}


class MessageFilter(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is wanted; an empty field wants everything of its kind. A stage is the one that a contact came to."""

    types: tuple[MessageType, ...] = ("stage_change",)
    cycles: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    directions: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    signals: tuple[str, ...] = ()

    def matches(self, workspace: str, kind: str, value: bytes) -> bool:
        """Return whether a message of a workspace's is wanted. Raises InvalidMessage for a value that is none of its kind."""
        if MESSAGE_TYPES.get(kind) not in self.types:
            return False
        message = decode_value(_MODELS[kind], value)
        if message.workspace != workspace:
            return False
        if isinstance(
            message, CompellingEvent
        ):  # of no cycle; its kind stands where a signal's name does
            return _among(message.kind, self.signals)
        if not _among(message.cycle, self.cycles):
            return False
        if isinstance(message, Signal):
            return _among(message.signal, self.signals)
        return (
            _among(message.stage.to, self.stages)
            and _among(message.direction, self.directions)
            and _among(message.reason, self.reasons)
        )


def _among(value: str, wanted: tuple[str, ...]) -> bool:
    return not wanted or value in wanted
