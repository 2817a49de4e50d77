"""A contact moved in an engagement cycle. What a CRM subscribes to."""

from typing import ClassVar, Literal

import msgspec

Direction = Literal[
    "entry", "advance", "skip", "lateral", "regression", "repeat", "re_entry", "dormancy"
]
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
ORDINARY_REASONS: frozenset[str] = frozenset(("touchpoint", "time"))


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


class SubjectChange(msgspec.Struct, frozen=True, kw_only=True):
    """What every change of a subject in a cycle says; `sequence` counts them from 1 without a gap, `id` tells a repeat."""

    TOPIC: ClassVar[str] = "stage-changes"

    id: str
    workspace: str
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


class StageChange(SubjectChange, frozen=True, kw_only=True):
    """A contact moved. `sequence` counts a contact's changes in a cycle from 1 without a gap; drop a repeat by `id`."""

    KIND: ClassVar[str] = "perigee.stage-change.v1"

    contact_id: str
    identifiers: list[str] = []
    """What the contact is known by when this is told, as `type:value`: user ids, verified addresses, external ids."""
    crm: dict[str, str] = {}
    """What other systems call the stage it came to, by system (`hubspot`, `salesforce` …): the cycle's `crm_map`."""


class AccountStageChange(SubjectChange, frozen=True, kw_only=True):
    """An account moved; `group_id` is the sender's name of it. It lies on the contacts' topic, keyed by account."""

    KIND: ClassVar[str] = "perigee.account-stage-change.v1"

    account_id: str
    group_id: str
