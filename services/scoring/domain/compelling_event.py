"""Compelling events: raised, updated, nearing their date, expired or withdrawn.

Pure: each function takes an event and an instant, and returns the changed event with the messages
that announce the change. Instants and spans are integer microseconds (UTC).
"""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from libs.common import ids
from libs.common.ids import ContactId, WorkspaceId
from libs.common.messages import CompellingEvent, Message, build_message
from libs.common.messages.compelling_event import EventScope, EventStatus

DAY = 86_400_000_000
THRESHOLDS = (30 * DAY, 7 * DAY, DAY)
"""Default reminder thresholds: spans before an event's date (µs), the longest first."""
EventState = Literal["open", "withdrawn", "expired"]


class TrackedEvent(msgspec.Struct, frozen=True):
    """The current state of a compelling event.

    `subject` is the id of the contact or account concerned, empty for a market. `thresholds` are
    spans before `date`; `told` are those already announced or passed. `standing` is the state;
    `version` counts the messages published so far. `cause` is the id of the signal or stage change
    that raised the event, or names the API.
    """

    event_id: str
    workspace: WorkspaceId
    kind: str
    scope: EventScope
    subject: str
    date: int | None = None
    owner: str = ""
    consequence: str = ""
    thresholds: tuple[int, ...] = THRESHOLDS
    told: tuple[int, ...] = ()
    standing: EventState = "open"
    version: int = 0
    raised_at: int = 0
    cause: str = ""
    properties: dict[str, Any] = {}


def raise_event(event: TrackedEvent, now: int) -> tuple[TrackedEvent, list[Message]]:
    """Raise an event; thresholds that have passed already are not announced again."""
    raised = _pass_thresholds(msgspec.structs.replace(event, raised_at=event.raised_at or now), now)
    return _publish(raised, "raised", now)


def change_event(
    event: TrackedEvent, now: int, **fields: Any
) -> tuple[TrackedEvent, list[Message]]:
    """Change fields of an open event; a new date resets the thresholds that were announced."""
    changed = msgspec.structs.replace(event, **fields)
    if changed.date != event.date:
        changed = _pass_thresholds(msgspec.structs.replace(changed, told=()), now)
    return _publish(changed, "updated", now)


def withdraw_event(event: TrackedEvent, now: int) -> tuple[TrackedEvent, list[Message]]:
    """Withdraw an event."""
    return _publish(msgspec.structs.replace(event, standing="withdrawn"), "withdrawn", now)


def announce_due(event: TrackedEvent, now: int) -> tuple[TrackedEvent, list[Message]]:
    """Announce an effect of time alone: expiry at the date, else the nearest threshold passed.

    Several thresholds passed at once give one message, for the one nearest to the date. The event
    comes back unchanged, without messages, when nothing is due.
    """
    if event.standing != "open" or event.date is None:
        return event, []
    if now >= event.date:
        return _publish(msgspec.structs.replace(event, standing="expired"), "expired", now)
    after = _pass_thresholds(event, now)
    if after.told == event.told:
        return event, []
    return _publish(after, "nearing", now, min(set(after.told) - set(event.told)))


def next_due_at(event: TrackedEvent) -> int | None:
    """Return the instant from which `announce_due` has an effect, or None for never."""
    if event.standing != "open" or event.date is None:
        return None
    threshold_instants = [event.date - span for span in event.thresholds if span not in event.told]
    return min([event.date, *threshold_instants])


def message_key(event: TrackedEvent) -> str:
    """Return the Kafka key of the event's messages: its subject, for a market the event's id."""
    return event.subject or event.event_id


def _pass_thresholds(event: TrackedEvent, now: int) -> TrackedEvent:
    """Mark every threshold passed at `now` as announced."""
    if event.date is None:
        return event
    passed = tuple(span for span in event.thresholds if event.date - span <= now)
    return msgspec.structs.replace(event, told=passed)


def _publish(
    event: TrackedEvent, status: EventStatus, now: int, left: int | None = None
) -> tuple[TrackedEvent, list[Message]]:
    """Return the event with its version raised, and its message; `left` is the threshold passed."""
    published = msgspec.structs.replace(event, version=event.version + 1)
    model = CompellingEvent(
        id=ids.derive_id(
            "compelling-event", published.workspace, published.event_id, str(published.version)
        ),
        event_id=published.event_id,
        workspace=published.workspace,
        kind=published.kind,
        scope=published.scope,
        status=status,
        version=published.version,
        occurred_at=now,
        contact_id=ContactId(published.subject) if published.scope == "contact" else None,
        account_id=published.subject if published.scope == "account" else None,
        date=published.date,
        left=left,
        owner=published.owner,
        consequence=published.consequence,
        cause=published.cause,
        properties=published.properties,
    )
    message = build_message(
        model,
        key=message_key(published),
        message_id=model.id,
        source="/scoring",
        time=now,
        reason=status,
    )
    return published, [message]


def sort_thresholds(spans: Sequence[int]) -> tuple[int, ...]:
    """Return the distinct thresholds, the longest first."""
    return tuple(sorted(set(spans), reverse=True))
