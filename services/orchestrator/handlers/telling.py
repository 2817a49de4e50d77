"""What others learn of an action: a message on `actions`, and for what was sent a touchpoint through the public door."""

import msgspec

from libs.common import ids
from libs.common.clock import to_iso
from libs.common.messages import Action, Message, compose
from libs.common.messages.action import ActionStatus, Outcome
from services.orchestrator.repository.actions import ActionRow, ContactRow

_encoder = msgspec.json.Encoder()


def action_message(
    action: ActionRow,
    contact_id: str,
    *,
    status: ActionStatus,
    reason: str,
    now: int,
    attempt: int,
    outcome: Outcome | None = None,
) -> Message:
    """Return the message of one turn in an action's life."""
    model = Action(
        id=ids.derive("action-message", action.action_id, status, str(attempt), reason),
        workspace=action.workspace,
        action_id=action.action_id,
        contact_id=contact_id,
        play=action.play,
        step=action.step,
        channel=action.channel,
        status=status,
        reason=reason,
        occurred_at=now,
        cause=action.cause,
        attempt=attempt,
        outcome=outcome,
    )
    return compose(model, key=contact_id, message_id=model.id, source="/orchestrator", time=now, reason=status)


def sent_touchpoint(action: ActionRow, who: ContactRow, now: int) -> bytes | None:
    """Return the tracking call that says what was sent, under an id the contact has already; None if it has none."""
    identity = {"userId": who.user_id} if who.user_id else {"anonymousId": who.anonymous_id}
    if not any(identity.values()):
        return None
    call = {
        **identity,
        "type": "track",
        "event": "Email Sent",
        "messageId": f"action-{action.action_id}",
        "timestamp": to_iso(now),
        "context": {"initiative": "brand", "channel": action.channel},
        "properties": {"play": action.play, "step": action.step, "action_id": action.action_id},
    }
    return _encoder.encode(call)
