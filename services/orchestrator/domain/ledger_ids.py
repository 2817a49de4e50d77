"""Ids of the ledger: deterministic, so one cause enrolls once and one step acts once."""

from libs.common import ids
from libs.common.ids import ContactId, WorkspaceId


def enrollment_id(
    workspace: WorkspaceId, play: str, contact_id: ContactId, cause: str, re_entry: str
) -> str:
    """Return the enrollment's id: one per cause, or one per contact if re-entry is `never`."""
    return ids.derive_id(
        "enrollment", workspace, play, contact_id if re_entry == "never" else cause
    )


def action_id(enrollment: str, step: str, occurrence: int = 1) -> str:
    """Return the action's id, which is the idempotency key towards the provider."""
    return ids.derive_id("action", enrollment, step, str(occurrence))


def in_holdout(play: str, contact_id: ContactId, share: float) -> bool:
    """Return whether a contact is in the play's holdout: by hash, so the same for all versions."""
    return int(ids.derive_id("holdout", play, contact_id)[:8], 16) < share * (1 << 32)
