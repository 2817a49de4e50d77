"""Raising compelling events by hand and by what people do; and looking after their dates."""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from libs.common import ids
from libs.common.clock import Clock
from libs.common.db.connection import Connection, Session
from libs.common.db.outbox import Outbox
from libs.common.db.unit_of_work import unit_of_work
from libs.common.errors import ConfigurationError, Conflict, NotFound
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
    """An event as somebody raises it: about a contact (id, identifier or e-mail), an account (the sender's name) or a market."""

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
    """Raises, changes and withdraws events of a workspace; tells what their dates bring."""

    def __init__(self, session: Session, outbox: Outbox, clock: Clock) -> None:
        self._session = session
        self._outbox = outbox
        self._clock = clock

    async def raise_event(
        self, workspace: str, given: NewCompellingEvent, author: str
    ) -> TrackedEvent:
        """Raise an event. Raises NotFound for nobody, ConfigurationError, Conflict for an id that is taken."""
        now = self._clock.now()
        if (given.scope == "market") != (not given.who):
            raise ConfigurationError(
                "an event about a contact or an account says whom, one about a market does not"
            )
        if given.date is not None and given.date <= now:
            raise ConfigurationError(f"the date {to_iso(given.date)} has passed")
        async with self._session.acquire() as connection, unit_of_work(connection):
            subject = await self._subject(connection, workspace, given)
            parts = (workspace, given.kind, given.scope, subject, str(given.date), str(now))
            event_id = given.event_id or ids.derive_id("event", *parts)
            if await compelling_events.get_for_update(connection, workspace, [event_id]):
                raise Conflict(f"there is an event {event_id!r} already")
            event = TrackedEvent(
                event_id, workspace, given.kind, given.scope, subject, given.date, given.owner, given.consequence,
                cause=f"raised by {author}", properties=given.properties,
            )  # fmt: skip
            if given.thresholds is not None:
                event = msgspec.structs.replace(event, thresholds=given.thresholds)
            return await self._write(connection, *raise_event(event, now))

    async def change(self, workspace: str, event_id: str, fields: dict[str, Any]) -> TrackedEvent:
        """Change an open event's date, owner, consequence or properties. Raises NotFound, Conflict."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            event = await self._open(connection, workspace, event_id)
            return await self._write(connection, *change_event(event, self._clock.now(), **fields))

    async def withdraw(self, workspace: str, event_id: str) -> TrackedEvent:
        """Take an open event back. Raises NotFound, Conflict."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            event = await self._open(connection, workspace, event_id)
            return await self._write(connection, *withdraw_event(event, self._clock.now()))

    async def list_open(self, workspace: str, who: str | None, limit: int) -> list[TrackedEvent]:
        """Return the open events of a workspace, or of one contact. Raises NotFound."""
        async with self._session.acquire() as connection:
            subject = await contacts.get_contact_id(connection, workspace, who) if who else None
            return await compelling_events.list_open(connection, workspace, subject, limit)

    async def announce_due(self) -> bool:
        """Tell what dates have brought; return whether there may be more."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            now = self._clock.now()
            due = await compelling_events.lock_due(connection, now, BATCH_SIZE)
            found = [announce_due(event, now) for event in due]
            await compelling_events.upsert_events(connection, [event for event, _ in found])
            await self._outbox.insert_messages(
                connection, [message for _, messages in found for message in messages]
            )
        return len(due) == BATCH_SIZE

    async def _subject(
        self, connection: Connection, workspace: str, given: NewCompellingEvent
    ) -> str:
        if given.scope == "contact":
            return await contacts.get_contact_id(connection, workspace, given.who)
        return derive_account_id(workspace, given.who) if given.scope == "account" else ""

    async def _open(self, connection: Connection, workspace: str, event_id: str) -> TrackedEvent:
        event = (await compelling_events.get_for_update(connection, workspace, [event_id])).get(
            event_id
        )
        if event is None:
            raise NotFound(f"workspace {workspace} has no event {event_id!r}")
        if event.standing != "open":
            raise Conflict(f"event {event_id} is {event.standing}")
        return event

    async def _write(
        self, connection: Connection, event: TrackedEvent, messages: Sequence[Message]
    ) -> TrackedEvent:
        await compelling_events.upsert_events(connection, [event])
        await self._outbox.insert_messages(connection, messages)
        return event


async def raise_new_events(
    connection: Connection, events: Sequence[TrackedEvent], now: int
) -> list[Message]:
    """Raise those events that nobody raised before; return their messages. A signal heard again raises nothing."""
    messages: list[Message] = []
    new: list[TrackedEvent] = []
    by_workspace: dict[str, list[TrackedEvent]] = {}
    for event in events:
        by_workspace.setdefault(event.workspace, []).append(event)
    for workspace, found in by_workspace.items():
        known = await compelling_events.get_for_update(
            connection, workspace, {event.event_id for event in found}
        )
        for event in found:
            if event.event_id not in known:
                made, told = raise_event(event, now)
                known[event.event_id] = made
                new.append(made)
                messages += told
    await compelling_events.upsert_events(connection, new)
    return messages
