"""Compelling events: raised through the API or by touchpoints, changed, withdrawn, expired."""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from libs.common import ids
from libs.common.clock import Clock
from libs.common.db.connection import Connection, Session
from libs.common.db.outbox import Outbox
from libs.common.db.unit_of_work import unit_of_work
from libs.common.errors import ConfigurationError, Conflict, NotFound
from libs.common.ids import WorkspaceId
from libs.common.instants import to_iso
from libs.common.messages import Message
from services.scoring.domain.account_membership import derive_account_id
from services.scoring.domain.compelling_event import (
    TrackedEvent,
    announce_due,
    change_event,
    raise_event,
    withdraw_event,
)
from services.scoring.repository import compelling_events, contacts

BATCH_SIZE = 200


class NewCompellingEvent(msgspec.Struct, frozen=True):
    """A compelling event to raise.

    `who` names its subject: a contact reference (id, identifier or e-mail), the group id of an
    account, or nothing for a market.
    """

    kind: str
    scope: Literal["contact", "account", "market"]
    who: str = ""
    event_id: str = ""
    date: int | None = None
    owner: str = ""
    consequence: str = ""
    thresholds: tuple[int, ...] | None = None
    properties: dict[str, Any] = {}


class CompellingEventService:
    """Raises, changes, withdraws and lists a workspace's events; announces reminders and expiry."""

    def __init__(self, session: Session, outbox: Outbox, clock: Clock) -> None:
        self._session = session
        self._outbox = outbox
        self._clock = clock

    async def raise_event(
        self, workspace: WorkspaceId, new: NewCompellingEvent, author: str
    ) -> TrackedEvent:
        """Raise an event: insert it and enqueue its messages in one transaction.

        Raises NotFound for an unknown contact, ConfigurationError for a subject that does not fit
        the scope or a date in the past, Conflict for an id that exists.
        """
        now = self._clock.now()
        if (new.scope == "market") != (not new.who):
            raise ConfigurationError(
                "an event about a contact or an account names its subject, "
                "an event about a market names none"
            )
        if new.date is not None and new.date <= now:
            raise ConfigurationError(f"the date {to_iso(new.date)} has passed")
        async with self._session.acquire() as connection, unit_of_work(connection):
            subject = await self._get_subject(connection, workspace, new)
            parts = (workspace, new.kind, new.scope, subject, str(new.date), str(now))
            event_id = new.event_id or ids.derive_id("event", *parts)
            if await compelling_events.get_for_update(connection, workspace, [event_id]):
                raise Conflict(f"an event {event_id!r} exists already")
            event = TrackedEvent(
                event_id, workspace, new.kind, new.scope, subject, new.date, new.owner,
                new.consequence, cause=f"raised by {author}", properties=new.properties,
            )  # fmt: skip
            if new.thresholds is not None:
                event = msgspec.structs.replace(event, thresholds=new.thresholds)
            return await self._save(connection, *raise_event(event, now))

    async def change(
        self, workspace: WorkspaceId, event_id: str, fields: dict[str, Any]
    ) -> TrackedEvent:
        """Change fields of an open event, locked before it is read.

        `fields` may have date, owner, consequence and properties. Raises NotFound, or Conflict for
        an event that is not open.
        """
        async with self._session.acquire() as connection, unit_of_work(connection):
            event = await self._lock_open_event(connection, workspace, event_id)
            return await self._save(connection, *change_event(event, self._clock.now(), **fields))

    async def withdraw(self, workspace: WorkspaceId, event_id: str) -> TrackedEvent:
        """Withdraw an open event, locked before it is read. Raises NotFound, Conflict."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            event = await self._lock_open_event(connection, workspace, event_id)
            return await self._save(connection, *withdraw_event(event, self._clock.now()))

    async def list_open(
        self, workspace: WorkspaceId, reference: str | None, limit: int
    ) -> list[TrackedEvent]:
        """Return the open events of a workspace, or of one contact. Raises NotFound."""
        async with self._session.acquire() as connection:
            subject = (
                await contacts.get_contact_id(connection, workspace, reference)
                if reference
                else None
            )
            return await compelling_events.list_open(connection, workspace, subject, limit)

    async def announce_due(self) -> bool:
        """Announce reminders and expiries that are due; return whether more may be due.

        Locks up to BATCH_SIZE due events, updates them and enqueues their messages.
        """
        async with self._session.acquire() as connection, unit_of_work(connection):
            now = self._clock.now()
            due = await compelling_events.lock_due(connection, now, BATCH_SIZE)
            announced = [announce_due(event, now) for event in due]
            await compelling_events.upsert_events(connection, [event for event, _ in announced])
            await self._outbox.insert_messages(
                connection, [message for _, messages in announced for message in messages]
            )
        return len(due) == BATCH_SIZE

    async def seconds_until_due(self) -> float | None:
        """Return the seconds until `announce_due` has work, or None."""
        async with self._session.acquire() as connection:
            return await compelling_events.get_seconds_until_due(connection, self._clock.now())

    async def _get_subject(
        self, connection: Connection, workspace: WorkspaceId, new: NewCompellingEvent
    ) -> str:
        if new.scope == "contact":
            return await contacts.get_contact_id(connection, workspace, new.who)
        return derive_account_id(workspace, new.who) if new.scope == "account" else ""

    async def _lock_open_event(
        self, connection: Connection, workspace: WorkspaceId, event_id: str
    ) -> TrackedEvent:
        event = (await compelling_events.get_for_update(connection, workspace, [event_id])).get(
            event_id
        )
        if event is None:
            raise NotFound(f"workspace {workspace} has no event {event_id!r}")
        if event.standing != "open":
            raise Conflict(f"event {event_id} is {event.standing}")
        return event

    async def _save(
        self, connection: Connection, event: TrackedEvent, messages: Sequence[Message]
    ) -> TrackedEvent:
        await compelling_events.upsert_events(connection, [event])
        await self._outbox.insert_messages(connection, messages)
        return event


async def raise_new_events(
    connection: Connection, events: Sequence[TrackedEvent], now: int
) -> list[Message]:
    """Insert the events whose id does not exist yet; return their messages.

    Existing events of the same ids are locked, in id order per workspace, and left as stored: a
    repeated signal raises nothing.
    """
    messages: list[Message] = []
    new_events: list[TrackedEvent] = []
    by_workspace: dict[WorkspaceId, list[TrackedEvent]] = {}
    for event in events:
        by_workspace.setdefault(event.workspace, []).append(event)
    for workspace, candidates in by_workspace.items():
        existing = await compelling_events.get_for_update(
            connection, workspace, {event.event_id for event in candidates}
        )
        for event in candidates:
            if event.event_id not in existing:
                raised, raised_messages = raise_event(event, now)
                existing[event.event_id] = raised
                new_events.append(raised)
                messages += raised_messages
    await compelling_events.upsert_events(connection, new_events)
    return messages
