"""What a play decided, and what became of it."""

from typing import Any, ClassVar, Literal

import msgspec

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
    """One turn in an action's life. `id` is this message's; `action_id` is the idempotency key towards the provider."""

    KIND: ClassVar[str] = "perigee.action.v1"
    TOPIC: ClassVar[str] = "actions"

    id: str
    workspace: str
    action_id: str
    contact_id: str
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
    """The catalogue's id of the content that it offers."""
    data: dict[str, Any] = {}
    """What is to be done, for whoever executes actions of the channel `kafka`."""
    until: int | None = None
    """When what is held comes up again; null if somebody has to let it go."""
