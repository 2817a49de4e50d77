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
from services.orchestrator.subscriptions import repository
from services.orchestrator.subscriptions.repository import AttemptRow, SubscriptionBacklog
from services.orchestrator.subscriptions.subscription import ReceiverHealth, Subscription
from services.orchestrator.webhooks.standard_webhooks import SigningSecret, encode_secret

SECRET_BYTES = 32
MAX_SHOWN_ATTEMPTS = 50
_NAME = 60

UrlCheck = Callable[[str], Awaitable[str | None]]
"""Returns why nothing can be posted to a URL, or None."""


class SubscriptionView(msgspec.Struct, frozen=True):
    """A subscription as it may be shown; the secret only when it is new. `failures` counts contacts since the last success."""

    name: str
    url: str
    selection: MessageFilter
    status: str
    reason: str
    failures: int
    failing_since: int | None
    cursor: str
    backlog: SubscriptionBacklog
    attempts: list[AttemptRow] = []
    secret: str | None = None


class SubscriptionService:
    """Keeps the subscriptions of all workspaces."""

    def __init__(self, session: Session, fault: UrlCheck, clock: Clock, shards: int) -> None:
        self._session = session
        self._fault = fault
        self._clock = clock
        self._shards = shards

    async def create(
        self,
        workspace: str,
        name: str,
        url: str,
        selection: MessageFilter,
        *,
        beginning: bool = False,
    ) -> SubscriptionView:
        """Subscribe from now on, or from the beginning of the log. Raises Conflict, ConfigurationError."""
        if not 0 < len(name) <= _NAME or not name.isprintable() or "/" in name:
            raise ConfigurationError(
                f"{name!r:.80}: a subscription's name has 1 to {_NAME} characters and no slash"
            )
        await self._check(url)
        secret = encode_secret(randomness.token_bytes(SECRET_BYTES))
        async with self._session.acquire() as connection, unit_of_work(connection):
            made = Subscription(
                0, ids.derive_id("subscription", workspace, name, secret), workspace, name, url, selection,
                (SigningSecret(secret),), "active", "", {} if beginning else await published.get_end_cursor(connection, workspace, self._shards),
                ReceiverHealth(),
            )  # fmt: skip
            if not await repository.insert_subscription(connection, made):
                raise Conflict(
                    f"there is a subscription {name} already: take another name, or delete that one"
                )
            return await self._shown(connection, made, secret=secret)

    async def _check(self, url: str) -> None:
        fault = await self._fault(url)
        if fault is not None:
            raise ConfigurationError(f"nothing can be sent to {url!r:.200}: {fault}")

    async def list_subscriptions(self, workspace: str) -> list[SubscriptionView]:
        """Return a workspace's subscriptions."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            return [
                await self._shown(connection, one)
                for one in await repository.list_subscriptions(connection, workspace)
            ]

    async def get(self, workspace: str, name: str) -> SubscriptionView:
        """Return a subscription with its newest attempts. Raises NotFound."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            found = await _named(connection, workspace, name, hold=False)
            newest = await repository.list_attempts(
                connection, found.subscription_id, MAX_SHOWN_ATTEMPTS
            )
            return await self._shown(connection, found, attempts=newest)

    async def pause(self, workspace: str, name: str) -> SubscriptionView:
        """Send nothing until it is resumed; its place is kept. Raises NotFound."""
        return await self._change(workspace, name, status="paused", reason="paused by an operator")

    async def resume(self, workspace: str, name: str) -> SubscriptionView:
        """Go on where it stopped, also after it was disabled. Raises NotFound."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            found = await _named(connection, workspace, name)
            await repository.update_waiting_due(connection, found.subscription_id)
            return await self._changed(
                connection, found, status="active", reason="", health=ReceiverHealth()
            )

    async def update(
        self, workspace: str, name: str, url: str | None, selection: MessageFilter | None
    ) -> SubscriptionView:
        """Send elsewhere, or something else, from now on. Raises NotFound, ConfigurationError."""
        if url is not None:
            await self._check(url)
        given: dict[str, Any] = {"url": url, "selection": selection}
        return await self._change(
            workspace, name, **{k: value for k, value in given.items() if value is not None}
        )

    async def rotate_secret(self, workspace: str, name: str, overlap: int) -> SubscriptionView:
        """Sign with a new secret, for `overlap` microseconds with the old ones too. Raises NotFound."""
        secret = encode_secret(randomness.token_bytes(SECRET_BYTES))
        now = self._clock.now()
        async with self._session.acquire() as connection, unit_of_work(connection):
            found = await _named(connection, workspace, name)
            held = [old for old in found.secrets if old.ends_at is None or old.ends_at > now]
            ending = [
                SigningSecret(old.text, min(old.ends_at or now + overlap, now + overlap))
                for old in held
            ]
            both = (SigningSecret(secret), *(old for old in ending if overlap > 0))
            return await self._changed(connection, found, secret=secret, secrets=both)

    async def resend(
        self, workspace: str, name: str, *, message: str | None, since: int | None
    ) -> SubscriptionView:
        """Send one message again, or everything since an instant (µs), or what was given up. Raises NotFound."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            found = await _named(connection, workspace, name)
            if message is not None:
                if not await repository.update_for_resend(
                    connection, found.subscription_id, message
                ):
                    raise NotFound(
                        f"{name} has no attempt for message {message} in its delivery log of 30 days"
                    )
                return await self._shown(connection, found)
            if since is not None:
                moment = datetime.fromtimestamp(since / SECOND).astimezone()
                place = await published.get_cursor_before(
                    connection, workspace, found.place, moment
                )
                return await self._changed(connection, found, place=place)
            await repository.update_waiting_due(connection, found.subscription_id, given_up=True)
            return await self._shown(connection, found)

    async def delete(self, workspace: str, name: str) -> None:
        """Forget a subscription. Raises NotFound."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            await repository.delete_subscription(
                connection, (await _named(connection, workspace, name)).subscription_id
            )

    async def _changed(
        self, connection: Connection, found: Subscription, secret: str | None = None, **changes: Any
    ) -> SubscriptionView:
        changed = msgspec.structs.replace(found, **changes)
        await repository.update_subscription(connection, changed)
        return await self._shown(connection, changed, secret=secret)

    async def _shown(
        self,
        connection: Connection,
        found: Subscription,
        *,
        attempts: Sequence[AttemptRow] = (),
        secret: str | None = None,
    ) -> SubscriptionView:
        health, waits = (
            found.health,
            await repository.count_backlog(connection, found, self._shards),
        )
        return SubscriptionView(
            found.name, found.url, found.selection, found.status, found.reason, len(health.failing), health.failing_since,
            published.encode_cursor(found.place), waits, [*attempts], secret,
        )  # fmt: skip

    async def _change(self, workspace: str, name: str, **changes: Any) -> SubscriptionView:
        async with self._session.acquire() as connection, unit_of_work(connection):
            return await self._changed(
                connection, await _named(connection, workspace, name), **changes
            )


async def _named(
    connection: Connection, workspace: str, name: str, *, hold: bool = True
) -> Subscription:
    found = await repository.get_by_name(connection, workspace, name, hold=hold)
    if found is None:
        there = (
            ", ".join(
                one.name for one in await repository.list_subscriptions(connection, workspace)
            )
            or "none"
        )
        raise NotFound(f"no subscription {name!r}; there are {there}")
    return found
