"""What others learn of an action: a message on `actions`, and for what was sent a touchpoint through the public door."""

import msgspec

from libs.common import ids
from libs.common.instants import to_iso
from libs.common.messages import Action, Message, Signal, build_message
from services.orchestrator.domain.contact_facts import ContactFacts
from services.orchestrator.domain.enrollment import Enrollment
from services.orchestrator.domain.referral import CONVERTED_EVENT
from services.orchestrator.repository.actions import ActionOutcome, ActionRow

_EVENTS = {"email": "Email Sent"}
_encoder = msgspec.json.Encoder()


def action_message(action: ActionRow, contact_id: str, became: ActionOutcome, now: int) -> Message:
    """Return the message of one turn in an action's life."""
    parts = (
        action.action_id,
        became.status,
        str(became.attempt),
        became.reason,
        str(became.due or ""),
    )
    model = Action(
        id=ids.derive_id("action-message", *parts),
        workspace=action.workspace,
        action_id=action.action_id,
        contact_id=contact_id,
        play=action.play,
        step=action.step,
        channel=action.channel,
        status=became.status,
        reason=became.reason,
        occurred_at=now,
        cause=action.cause,
        attempt=became.attempt,
        outcome=became.outcome,
        destination=action.destination,
        content=became.content or action.content,
        data=dict(became.data),
        until=became.until,
    )
    return _composed(model)


def holdout_message(run: Enrollment, now: int) -> Message:
    """Return the message of a contact that is held out of a play: nothing will go out, and that is a decision too."""
    model = Action(
        id=ids.derive_id("action-message", run.enrollment_id, "holdout"),
        workspace=run.workspace,
        action_id=run.enrollment_id,
        contact_id=run.contact_id,
        play=run.play,
        step="",
        channel="",
        status="holdout",
        reason="holdout",
        occurred_at=now,
        cause=run.cause,
    )
    return _composed(model)


def _composed(model: Action) -> Message:
    key, at, why = model.contact_id, model.occurred_at, model.status
    return build_message(
        model, key=key, message_id=model.id, source="/orchestrator", time=at, reason=why
    )


def _identity(who: ContactFacts) -> dict[str, str]:
    """Return an id of a contact that the door takes."""
    if who.user_id:
        return {"userId": who.user_id}
    return {"anonymousId": who.anonymous_id} if who.anonymous_id else {}


def referral_touchpoint(referrer: ContactFacts, cause: Signal, code: str) -> bytes | None:
    """Return the tracking call that says that somebody's friend has bought; None if the door knows no id of theirs."""
    identity = _identity(referrer)
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


def sent_touchpoint(action: ActionRow, who: ContactFacts, now: int) -> bytes | None:
    """Return the tracking call that says what was sent, under an id the contact has already; None if it has none.

    What goes to colleagues (a webhook, Slack) touches nobody.
    """
    identity = _identity(who)
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
