"""What an operator does with webhook subscriptions: make, look, pause, go on, send again, give another secret."""

import secrets as randomness
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any

import msgspec

from libs.common import ids
from libs.common.clock import Clock
from libs.common.db import published_messages as published
from libs.common.db.connection import Connection, Session
from libs.common.db.unit_of_work import unit_of_work
from libs.common.errors import ConfigurationError, Conflict, NotFound
from libs.common.instants import SECOND
from libs.common.messages.message_filter import MessageFilter
from services.orchestrator.domain.subscription import Health, Subscription
from services.orchestrator.domain.webhook import Secret, secret_of
from services.orchestrator.repository import subscriptions
from services.orchestrator.repository.subscriptions import Attempt, Backlog

SECRET_BYTES = 32
SHOWN = 50
_NAME = 60

Fault = Callable[[str], Awaitable[str | None]]
"""Returns why nothing can be posted to a URL, or None."""


class Shown(msgspec.Struct, frozen=True):
    """A subscription as it may be shown; the secret only when it is new. `failures` counts contacts since the last success."""

    name: str
    url: str
    selection: MessageFilter
    status: str
    reason: str
    failures: int
    failing_since: int | None
    cursor: str
    backlog: Backlog
    attempts: list[Attempt] = []
    secret: str | None = None


class SubscriptionsDesk:
    """Keeps the subscriptions of all workspaces."""

    def __init__(self, session: Session, fault: Fault, clock: Clock, shards: int) -> None:
        self._session = session
        self._fault = fault
        self._clock = clock
        self._shards = shards

    async def create(
        self, workspace: str, name: str, url: str, selection: MessageFilter, *, beginning: bool = False
    ) -> Shown:
        """Subscribe from now on, or from the beginning of the log. Raises Conflict, ConfigurationError."""
        if not 0 < len(name) <= _NAME or not name.isprintable() or "/" in name:
            raise ConfigurationError(f"{name!r:.80}: a subscription's name has 1 to {_NAME} characters and no slash")
        await self._check(url)
        secret = secret_of(randomness.token_bytes(SECRET_BYTES))
        async with self._session.acquire() as connection, unit_of_work(connection):
            made = Subscription(
                0, ids.derive_id("subscription", workspace, name, secret), workspace, name, url, selection,
                (Secret(secret),), "active", "", {} if beginning else await published.get_end_cursor(connection, workspace, self._shards),
                Health(),
            )  # fmt: skip
            if not await subscriptions.add(connection, made):
                raise Conflict(f"there is a subscription {name} already: take another name, or delete that one")
            return await self._shown(connection, made, secret=secret)

    async def _check(self, url: str) -> None:
        fault = await self._fault(url)
        if fault is not None:
            raise ConfigurationError(f"nothing can be sent to {url!r:.200}: {fault}")

    async def every(self, workspace: str) -> list[Shown]:
        """Return a workspace's subscriptions."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            return [await self._shown(connection, one) for one in await subscriptions.every(connection, workspace)]

    async def one(self, workspace: str, name: str) -> Shown:
        """Return a subscription with its newest attempts. Raises NotFound."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            found = await _named(connection, workspace, name, hold=False)
            newest = await subscriptions.attempts(connection, found.subscription_id, SHOWN)
            return await self._shown(connection, found, attempts=newest)

    async def pause(self, workspace: str, name: str) -> Shown:
        """Send nothing until it is resumed; its place is kept. Raises NotFound."""
        return await self._change(workspace, name, status="paused", reason="paused by an operator")

    async def resume(self, workspace: str, name: str) -> Shown:
        """Go on where it stopped, also after it was disabled. Raises NotFound."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            found = await _named(connection, workspace, name)
            await subscriptions.hurry(connection, found.subscription_id)
            return await self._changed(connection, found, status="active", reason="", health=Health())

    async def change(self, workspace: str, name: str, url: str | None, selection: MessageFilter | None) -> Shown:
        """Send elsewhere, or something else, from now on. Raises NotFound, ConfigurationError."""
        if url is not None:
            await self._check(url)
        given: dict[str, Any] = {"url": url, "selection": selection}
        return await self._change(workspace, name, **{k: value for k, value in given.items() if value is not None})

    async def rotate(self, workspace: str, name: str, overlap: int) -> Shown:
        """Sign with a new secret, for `overlap` microseconds with the old ones too. Raises NotFound."""
        secret = secret_of(randomness.token_bytes(SECRET_BYTES))
        now = self._clock.now()
        async with self._session.acquire() as connection, unit_of_work(connection):
            found = await _named(connection, workspace, name)
            held = [old for old in found.secrets if old.ends_at is None or old.ends_at > now]
            ending = [Secret(old.text, min(old.ends_at or now + overlap, now + overlap)) for old in held]
            both = (Secret(secret), *(old for old in ending if overlap > 0))
            return await self._changed(connection, found, secret=secret, secrets=both)

    async def resend(self, workspace: str, name: str, *, message: str | None, since: int | None) -> Shown:
        """Send one message again, or everything since an instant (µs), or what was given up. Raises NotFound."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            found = await _named(connection, workspace, name)
            if message is not None:
                if not await subscriptions.again(connection, found.subscription_id, message):
                    raise NotFound(f"{name} has no attempt for message {message} in its delivery log of 30 days")
                return await self._shown(connection, found)
            if since is not None:
                moment = datetime.fromtimestamp(since / SECOND).astimezone()
                place = await published.get_cursor_before(connection, workspace, found.place, moment)
                return await self._changed(connection, found, place=place)
            await subscriptions.hurry(connection, found.subscription_id, given_up=True)
            return await self._shown(connection, found)

    async def delete(self, workspace: str, name: str) -> None:
        """Forget a subscription. Raises NotFound."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            await subscriptions.remove(connection, (await _named(connection, workspace, name)).subscription_id)

    async def _changed(
        self, connection: Connection, found: Subscription, secret: str | None = None, **changes: Any
    ) -> Shown:
        changed = msgspec.structs.replace(found, **changes)
        await subscriptions.change(connection, changed)
        return await self._shown(connection, changed, secret=secret)

    async def _shown(
        self,
        connection: Connection,
        found: Subscription,
        *,
        attempts: Sequence[Attempt] = (),
        secret: str | None = None,
    ) -> Shown:
        health, waits = found.health, await subscriptions.backlog(connection, found, self._shards)
        return Shown(
            found.name, found.url, found.selection, found.status, found.reason, len(health.failing), health.failing_since,
            published.encode_cursor(found.place), waits, [*attempts], secret,
        )  # fmt: skip

    async def _change(self, workspace: str, name: str, **changes: Any) -> Shown:
        async with self._session.acquire() as connection, unit_of_work(connection):
            return await self._changed(connection, await _named(connection, workspace, name), **changes)


async def _named(connection: Connection, workspace: str, name: str, *, hold: bool = True) -> Subscription:
    found = await subscriptions.named(connection, workspace, name, hold=hold)
    if found is None:
        there = ", ".join(one.name for one in await subscriptions.every(connection, workspace)) or "none"
        raise NotFound(f"no subscription {name!r}; there are {there}")
    return found
