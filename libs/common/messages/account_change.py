"""An account moved in an engagement cycle of accounts. It lies on the same topic as the contacts' changes, by account."""

from typing import ClassVar

import msgspec

from libs.common.messages.stage_change import AxisChange, Cause, Direction, Reason, StageMove


class AccountStageChange(msgspec.Struct, frozen=True):
    """`sequence` counts an account's changes in a cycle from 1 without a gap; `group_id` is the sender's name of it."""

    KIND: ClassVar[str] = "perigee.account-stage-change.v1"
    TOPIC: ClassVar[str] = "stage-changes"

    id: str
    workspace: str
    account_id: str
    group_id: str
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
