"""Actions that plays decide, and their status changes."""

from typing import Any, ClassVar, Literal

import msgspec

from libs.common.ids import ContactId, WorkspaceId

ActionStatus = Literal[
    "pending",
    "sending",
    "sent",
    "held",
    "suppressed",
    "capped",
    "holdout",
    "skipped",
    "failed",
    "in_doubt",
]
Outcome = Literal["delivered", "retried", "failed", "unknown"]


class Action(msgspec.Struct, frozen=True, omit_defaults=True):
    """One status change of an action.

    `id` is the id of this message; `action_id` is the idempotency key towards the provider.
    """

    KIND: ClassVar[str] = "perigee.action.v1"
    TOPIC: ClassVar[str] = "actions"

    id: str
    workspace: WorkspaceId
    action_id: str
    contact_id: ContactId
    play: str
    step: str
    channel: str
    status: ActionStatus
    reason: str
    occurred_at: int
    cause: str
    attempt: int = 0
    outcome: Outcome | None = None
    destination: str = ""
    content: str = ""
    """Id of the recommended content."""
    data: dict[str, Any] = {}
    """Content of the action, for the executor of channel `kafka`."""
    until: int | None = None
    """Instant at which a held action is reconsidered; null if an operator must release it."""
