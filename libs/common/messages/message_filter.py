"""Message filter of a subscriber, for webhooks and for the cursor API alike."""

from typing import Literal

import msgspec

from libs.common.ids import WorkspaceId
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
"""Message type in a filter, by event type."""
_MODELS: dict[str, type[FilteredMessage]] = {
    model.KIND: model for model in (StageChange, AccountStageChange, Signal, CompellingEvent)
}


class MessageFilter(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Selected messages; an empty field selects all values. `stages` are the stages reached."""

    types: tuple[MessageType, ...] = ("stage_change",)
    cycles: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    directions: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    signals: tuple[str, ...] = ()

    def matches(self, workspace: WorkspaceId, kind: str, value: bytes) -> bool:
        """Return whether the workspace's subscriber selects this message.

        Raises InvalidMessage for a value that cannot be decoded as its kind.
        """
        if MESSAGE_TYPES.get(kind) not in self.types:
            return False
        message = decode_value(_MODELS[kind], value)
        if message.workspace != workspace:
            return False
        if isinstance(message, CompellingEvent):
            # It has no cycle; `signals` selects its kind.
            return _selects(self.signals, message.kind)
        if not _selects(self.cycles, message.cycle):
            return False
        if isinstance(message, Signal):
            return _selects(self.signals, message.signal)
        return (
            _selects(self.stages, message.stage.to)
            and _selects(self.directions, message.direction)
            and _selects(self.reasons, message.reason)
        )


def _selects(selected: tuple[str, ...], value: str) -> bool:
    return not selected or value in selected
