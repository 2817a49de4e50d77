"""Compelling events: raised, changed, withdrawn; nearing their date, each threshold once; expired when it has come. Pure."""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from libs.common import ids
from libs.common.messages import CompellingEvent, Message, build_message
from libs.common.messages.compelling_event import EventScope, EventStatus

DAY = 86_400_000_000
THRESHOLDS = (30 * DAY, 7 * DAY, DAY)
"""How long before its date an event is told again (µs), where nobody says otherwise."""
EventState = Literal["open", "withdrawn", "expired"]


class TrackedEvent(msgspec.Struct, frozen=True):
    """A compelling event as it stands; instants and spans in microseconds.

    `subject` is the contact or the account it is about, empty for a market. `told` are the thresholds that were passed.
    """

    event_id: str
    workspace: str
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
    """Raise an event. Thresholds that have passed already are told by that alone."""
    found = _passed(msgspec.structs.replace(event, raised_at=event.raised_at or now), now)
    return _told(found, "raised", now)


def change_event(
    event: TrackedEvent, now: int, **fields: Any
) -> tuple[TrackedEvent, list[Message]]:
    """Change an open event; another date lets its thresholds come again."""
    found = msgspec.structs.replace(event, **fields)
    if found.date != event.date:
        found = _passed(msgspec.structs.replace(found, told=()), now)
    return _told(found, "updated", now)


def withdraw_event(event: TrackedEvent, now: int) -> tuple[TrackedEvent, list[Message]]:
    """Take an event back."""
    return _told(msgspec.structs.replace(event, standing="withdrawn"), "withdrawn", now)


def announce_due(event: TrackedEvent, now: int) -> tuple[TrackedEvent, list[Message]]:
    """Tell what time alone has brought: the nearest threshold that has passed, or that the date has come."""
    if event.standing != "open" or event.date is None:
        return event, []
    if now >= event.date:
        return _told(msgspec.structs.replace(event, standing="expired"), "expired", now)
    after = _passed(event, now)
    if after.told == event.told:
        return event, []
    return _told(after, "nearing", now, min(set(after.told) - set(event.told)))


def next_due_at(event: TrackedEvent) -> int | None:
    """Return the instant at which time brings something, or None."""
    if event.standing != "open" or event.date is None:
        return None
    waits = [event.date - span for span in event.thresholds if span not in event.told]
    return min([event.date, *waits])


def message_key(event: TrackedEvent) -> str:
    """Return the Kafka key of an event's messages."""
    return event.subject or event.event_id


def _passed(event: TrackedEvent, now: int) -> TrackedEvent:
    if event.date is None:
        return event
    told = tuple(span for span in event.thresholds if event.date - span <= now)
    return msgspec.structs.replace(event, told=told)


def _told(
    event: TrackedEvent, status: EventStatus, now: int, left: int | None = None
) -> tuple[TrackedEvent, list[Message]]:
    found = msgspec.structs.replace(event, version=event.version + 1)
    model = CompellingEvent(
        id=ids.derive_id("compelling-event", found.workspace, found.event_id, str(found.version)),
        event_id=found.event_id,
        workspace=found.workspace,
        kind=found.kind,
        scope=found.scope,
        status=status,
        version=found.version,
        occurred_at=now,
        contact_id=found.subject if found.scope == "contact" else None,
        account_id=found.subject if found.scope == "account" else None,
        date=found.date,
        left=left,
        owner=found.owner,
        consequence=found.consequence,
        cause=found.cause,
        properties=found.properties,
    )
    message = build_message(
        model,
        key=message_key(found),
        message_id=model.id,
        source="/scoring",
        time=now,
        reason=status,
    )
    return found, [message]


def sort_thresholds(spans: Sequence[int]) -> tuple[int, ...]:
    """Return thresholds in order, the longest first, each once."""
    return tuple(sorted(set(spans), reverse=True))
