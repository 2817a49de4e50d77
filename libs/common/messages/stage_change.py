"""Stage changes of contacts and accounts in an engagement cycle; CRMs subscribe to them."""

from typing import ClassVar, Literal

import msgspec

from libs.common.ids import ContactId, WorkspaceId

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
    """Move between two engagement stages; `from` is null at the entry."""

    from_: str | None = msgspec.field(name="from")
    to: str


class AxisChange(msgspec.Struct, frozen=True):
    """Position on one axis before and after the change."""

    from_: str | None = msgspec.field(name="from")
    to: str
    direction: Direction


class Cause(msgspec.Struct, frozen=True, omit_defaults=True):
    """Cause of a move: a touchpoint, the passing of time, or a correction by hand."""

    kind: Literal["touchpoint", "time", "correction"]
    occurred_at: int
    source: str = ""
    message_id: str = ""


class SubjectChange(msgspec.Struct, frozen=True, kw_only=True):
    """Common fields of the stage changes of contacts and accounts.

    `sequence` counts a subject's changes in a cycle from 1 without a gap; a repeat has the same
    `id`.
    """

    TOPIC: ClassVar[str] = "stage-changes"

    id: str
    workspace: WorkspaceId
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
    """Stage change of a contact.

    `sequence` counts a contact's changes in a cycle from 1 without a gap; a repeat has the same
    `id`.
    """

    KIND: ClassVar[str] = "perigee.stage-change.v1"

    contact_id: ContactId
    identifiers: list[str] = []
    """User ids, verified addresses and external ids of the contact when sent, as `type:value`."""
    crm: dict[str, str] = {}
    """Reached stage in other systems (`hubspot`, `salesforce` …), from the cycle's `crm_map`."""


class AccountStageChange(SubjectChange, frozen=True, kw_only=True):
    """Stage change of an account; `group_id` is its id at the sender, the key is `account_id`."""

    KIND: ClassVar[str] = "perigee.account-stage-change.v1"

    account_id: str
    group_id: str
