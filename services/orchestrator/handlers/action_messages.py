"""Messages and touchpoints about actions: the topic `actions`, and echoes for the ingest API."""

import msgspec

from libs.common import ids
from libs.common.ids import ContactId
from libs.common.instants import to_iso
from libs.common.messages import Action, Message, Signal, build_message
from services.orchestrator.domain.contact_facts import ContactFacts
from services.orchestrator.domain.enrollment import Enrollment
from services.orchestrator.domain.referral import CONVERTED_EVENT
from services.orchestrator.repository.actions import ActionOutcome, ActionRow

_EVENTS = {"email": "Email Sent"}
_encoder = msgspec.json.Encoder()


def action_message(
    action: ActionRow, contact_id: ContactId, outcome: ActionOutcome, now: int
) -> Message:
    """Return the message that publishes an action's new status."""
    parts = (
        action.action_id,
        outcome.status,
        str(outcome.attempt),
        outcome.reason,
        str(outcome.due or ""),
    )
    model = Action(
        id=ids.derive_id("action-message", *parts),
        workspace=action.workspace,
        action_id=action.action_id,
        contact_id=contact_id,
        play=action.play,
        step=action.step,
        channel=action.channel,
        status=outcome.status,
        reason=outcome.reason,
        occurred_at=now,
        cause=action.cause,
        attempt=outcome.attempt,
        outcome=outcome.outcome,
        destination=action.destination,
        content=outcome.content or action.content,
        data=dict(outcome.data),
        until=outcome.until,
    )
    return _to_message(model)


def holdout_message(enrollment: Enrollment, now: int) -> Message:
    """Return the message about a contact in a play's holdout, which gets no action."""
    model = Action(
        id=ids.derive_id("action-message", enrollment.enrollment_id, "holdout"),
        workspace=enrollment.workspace,
        action_id=enrollment.enrollment_id,
        contact_id=enrollment.contact_id,
        play=enrollment.play,
        step="",
        channel="",
        status="holdout",
        reason="holdout",
        occurred_at=now,
        cause=enrollment.cause,
    )
    return _to_message(model)


def _to_message(model: Action) -> Message:
    return build_message(
        model,
        key=model.contact_id,
        message_id=model.id,
        source="/orchestrator",
        time=model.occurred_at,
        reason=model.status,
    )


def _tracking_identity(contact: ContactFacts) -> dict[str, str]:
    """Return an id of a contact for a tracking call; empty if ingest would accept none."""
    if contact.user_id:
        return {"userId": contact.user_id}
    return {"anonymousId": contact.anonymous_id} if contact.anonymous_id else {}


def referral_touchpoint(referrer: ContactFacts, cause: Signal, code: str) -> bytes | None:
    """Return the tracking call that credits a referrer with a friend's purchase.

    None if the referrer has no id that ingest accepts.
    """
    identity = _tracking_identity(referrer)
    if not identity:
        return None
    call = {
        **identity,
        "type": "track",
        "event": CONVERTED_EVENT,
        "messageId": ids.derived_message_id(cause.workspace, cause.source, cause.message_id),
        "timestamp": to_iso(cause.occurred_at),
        "context": {"initiative": "brand"},
        "properties": {"referral_code": code},
    }
    return _encoder.encode(call)


def sent_touchpoint(action: ActionRow, contact: ContactFacts, now: int) -> bytes | None:
    """Return the tracking call about a sent message, under an id of its contact.

    None if the contact has no such id, or the message went to colleagues (a webhook, Slack): that
    is no touchpoint.
    """
    identity = _tracking_identity(contact)
    if action.channel not in _EVENTS or not identity:
        return None
    properties = {"play": action.play, "step": action.step, "action_id": action.action_id}
    if action.content:
        properties["content_id"] = action.content
    call = {
        **identity,
        "type": "track",
        "event": _EVENTS[action.channel],
        "messageId": f"action-{action.action_id}",
        "timestamp": to_iso(now),
        "context": {"initiative": "brand", "channel": action.channel},
        "properties": properties,
    }
    return _encoder.encode(call)
