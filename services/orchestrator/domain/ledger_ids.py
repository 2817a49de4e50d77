"""The ledger's ids: the same cause enrols once, the same step acts once, whoever decides and however often."""

from libs.common import ids


def enrollment_id(workspace: str, play: str, contact_id: str, cause: str, re_entry: str) -> str:
    """Return the enrollment's id: one per cause, or one per contact where a play is never entered again."""
    return ids.derive_id(
        "enrollment", workspace, play, contact_id if re_entry == "never" else cause
    )


def action_id(enrollment: str, step: str, occurrence: int = 1) -> str:
    """Return the action's id, the idempotency key towards the provider."""
    return ids.derive_id("action", enrollment, step, str(occurrence))


def in_holdout(play: str, contact_id: str, share: float) -> bool:
    """Return whether the contact is held out of the play: by hash, so it stays so over the versions."""
    return int(ids.derive_id("holdout", play, contact_id)[:8], 16) < share * (1 << 32)
