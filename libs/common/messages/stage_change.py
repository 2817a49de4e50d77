"""A contact moved in an engagement cycle. What a CRM subscribes to."""

from typing import ClassVar, Literal

import msgspec

Direction = Literal["entry", "advance", "skip", "lateral", "regression", "repeat", "re_entry", "dormancy"]
Reason = Literal[
    "touchpoint",
    "time",
    "late_touchpoint",
    "corrected",
    "identity_merge",
    "identity_unmerge",
    "cycle_published",
    "erasure",
    "history",
]
ORDINARY: frozenset[str] = frozenset(("touchpoint", "time"))


class StageMove(msgspec.Struct, frozen=True):
    """From one engagement stage to another; `from_` is null at the entry."""

    from_: str | None = msgspec.field(name="from")
    to: str


class AxisChange(msgspec.Struct, frozen=True):
    """The position on one axis before and after."""

    from_: str | None = msgspec.field(name="from")
    to: str
    direction: Direction


class Cause(msgspec.Struct, frozen=True, omit_defaults=True):
    """The touchpoint that caused the move, the passing of time, or a stage set by hand."""

    kind: Literal["touchpoint", "time", "correction"]
    occurred_at: int
    source: str = ""
    message_id: str = ""


class StageChange(msgspec.Struct, frozen=True):
    """`sequence` counts a contact's changes in a cycle from 1 without a gap; drop a repeat by `id`."""

    KIND: ClassVar[str] = "perigee.stage-change.v1"
    TOPIC: ClassVar[str] = "stage-changes"

    id: str
    workspace: str
    contact_id: str
    cycle: str
    cycle_version: str
    sequence: int
    occurred_at: int
    direction: Direction
    stage: StageMove
    axes: dict[str, AxisChange]
    dormant: bool
    instance: str
    reason: Reason
    cause: Cause
    values: dict[str, float]
