"""Application service for webhook subscriptions: create, read, pause, resend, rotate secrets."""

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
from libs.common.ids import WorkspaceId
from libs.common.instants import SECOND
from libs.common.messages.message_filter import MessageFilter
from services.orchestrator.subscriptions.repository import (
    delivery_log,
    retry_queue,
    subscriptions,
)
from services.orchestrator.subscriptions.repository.delivery_log import AttemptRow
from services.orchestrator.subscriptions.repository.retry_queue import SubscriptionBacklog
from services.orchestrator.subscriptions.subscription import ReceiverHealth, Subscription
from services.orchestrator.webhooks.standard_webhooks import SigningSecret, encode_secret

SECRET_BYTES = 32
MAX_SHOWN_ATTEMPTS = 50
_MAX_NAME_CHARACTERS = 60

UrlCheck = Callable[[str], Awaitable[str | None]]
"""Check of a webhook URL: returns its fault, or None."""


class SubscriptionView(msgspec.Struct, frozen=True):
    """A subscription as the API returns it.

    `secret` is set only when it is new; `failures` is the number of contacts whose messages failed
    since the last success.
    """

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
    """Use cases of webhook subscriptions."""

    def __init__(self, session: Session, check_url: UrlCheck, clock: Clock, shards: int) -> None:
        self._session = session
        self._check_url = check_url
        self._clock = clock
        self._shards = shards

    async def create(
        self,
        workspace: WorkspaceId,
        name: str,
        url: str,
        selection: MessageFilter,
        *,
        beginning: bool = False,
    ) -> SubscriptionView:
        """Create a subscription that starts now, or at the `beginning` of the log.

        Raises Conflict, ConfigurationError.
        """
        if not 0 < len(name) <= _MAX_NAME_CHARACTERS or not name.isprintable() or "/" in name:
            raise ConfigurationError(
                f"{name!r:.80}: a subscription name must have 1 to {_MAX_NAME_CHARACTERS}"
                " printable characters and no slash"
            )
        await self._validate_url(url)
        secret = encode_secret(randomness.token_bytes(SECRET_BYTES))
        async with self._session.acquire() as connection, unit_of_work(connection):
            cursor = (
                {}
                if beginning
                else await published.get_end_cursor(connection, workspace, self._shards)
            )
            subscription = Subscription(
                0, ids.derive_id("subscription", workspace, name, secret), workspace, name, url,
                selection, (SigningSecret(secret),), "active", "", cursor, ReceiverHealth(),
            )  # fmt: skip
            if not await subscriptions.insert_subscription(connection, subscription):
                raise Conflict(
                    f"subscription {name} already exists: choose another name or delete it first"
                )
            return await self._build_view(connection, subscription, secret=secret)

    async def _validate_url(self, url: str) -> None:
        fault = await self._check_url(url)
        if fault is not None:
            raise ConfigurationError(f"{url!r:.200} cannot receive webhooks: {fault}")

    async def list_subscriptions(self, workspace: WorkspaceId) -> list[SubscriptionView]:
        """Return a workspace's subscriptions in order of name."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            return [
                await self._build_view(connection, subscription)
                for subscription in await subscriptions.list_subscriptions(connection, workspace)
            ]

    async def get(self, workspace: WorkspaceId, name: str) -> SubscriptionView:
        """Return a subscription with its newest attempts. Raises NotFound."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            subscription = await subscriptions.get_by_name(connection, workspace, name)
            if subscription is None:
                raise await _not_found(connection, workspace, name)
            attempts = await delivery_log.list_attempts(
                connection, subscription.subscription_id, MAX_SHOWN_ATTEMPTS
            )
            return await self._build_view(connection, subscription, attempts=attempts)

    async def pause(self, workspace: WorkspaceId, name: str) -> SubscriptionView:
        """Stop deliveries until `resume`; the cursor is kept. Raises NotFound."""
        return await self._update_by_name(
            workspace, name, status="paused", reason="paused by an operator"
        )

    async def resume(self, workspace: WorkspaceId, name: str) -> SubscriptionView:
        """Resume deliveries at the cursor, also of a disabled subscription. Raises NotFound."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            subscription = await _lock_subscription(connection, workspace, name)
            await retry_queue.update_waiting_due(connection, subscription.subscription_id)
            return await self._update(
                connection, subscription, status="active", reason="", health=ReceiverHealth()
            )

    async def update(
        self, workspace: WorkspaceId, name: str, url: str | None, selection: MessageFilter | None
    ) -> SubscriptionView:
        """Change the URL, the filter or both. Raises NotFound, ConfigurationError."""
        if url is not None:
            await self._validate_url(url)
        fields: dict[str, Any] = {"url": url, "selection": selection}
        changes = {key: value for key, value in fields.items() if value is not None}
        return await self._update_by_name(workspace, name, **changes)

    async def rotate_secret(
        self, workspace: WorkspaceId, name: str, overlap: int
    ) -> SubscriptionView:
        """Sign with a new secret, and for `overlap` microseconds with the old ones as well.

        Raises NotFound.
        """
        secret = encode_secret(randomness.token_bytes(SECRET_BYTES))
        now = self._clock.now()
        async with self._session.acquire() as connection, unit_of_work(connection):
            subscription = await _lock_subscription(connection, workspace, name)
            valid = [s for s in subscription.secrets if s.ends_at is None or s.ends_at > now]
            ending = [
                SigningSecret(old.text, min(old.ends_at or now + overlap, now + overlap))
                for old in valid
            ]
            new_secrets = (SigningSecret(secret), *(old for old in ending if overlap > 0))
            return await self._update(connection, subscription, secret=secret, secrets=new_secrets)

    async def resend(
        self, workspace: WorkspaceId, name: str, *, message: str | None, since: int | None
    ) -> SubscriptionView:
        """Send again one message, all messages since an instant (µs), or the given-up messages.

        Raises NotFound.
        """
        async with self._session.acquire() as connection, unit_of_work(connection):
            subscription = await _lock_subscription(connection, workspace, name)
            subscription_id = subscription.subscription_id
            if message is not None:
                if not await retry_queue.upsert_for_resend(connection, subscription_id, message):
                    raise NotFound(
                        f"the delivery log of {name} (30 days) has no attempt for message {message}"
                    )
                return await self._build_view(connection, subscription)
            if since is not None:
                instant = datetime.fromtimestamp(since / SECOND).astimezone()
                cursor = await published.get_cursor_before(
                    connection, workspace, subscription.cursor, instant
                )
                return await self._update(connection, subscription, cursor=cursor)
            await retry_queue.update_waiting_due(connection, subscription_id, given_up=True)
            return await self._build_view(connection, subscription)

    async def delete(self, workspace: WorkspaceId, name: str) -> None:
        """Delete a subscription. Raises NotFound."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            subscription = await _lock_subscription(connection, workspace, name)
            await subscriptions.delete_subscription(connection, subscription.subscription_id)

    async def _update(
        self,
        connection: Connection,
        subscription: Subscription,
        secret: str | None = None,
        **changes: Any,
    ) -> SubscriptionView:
        changed = msgspec.structs.replace(subscription, **changes)
        await subscriptions.update_subscription(connection, changed)
        return await self._build_view(connection, changed, secret=secret)

    async def _build_view(
        self,
        connection: Connection,
        subscription: Subscription,
        *,
        attempts: Sequence[AttemptRow] = (),
        secret: str | None = None,
    ) -> SubscriptionView:
        s = subscription
        backlog = await retry_queue.count_backlog(connection, s, self._shards)
        return SubscriptionView(
            s.name, s.url, s.selection, s.status, s.reason, len(s.health.failing),
            s.health.failing_since, published.encode_cursor(s.cursor), backlog, [*attempts], secret,
        )  # fmt: skip

    async def _update_by_name(
        self, workspace: WorkspaceId, name: str, **changes: Any
    ) -> SubscriptionView:
        async with self._session.acquire() as connection, unit_of_work(connection):
            subscription = await _lock_subscription(connection, workspace, name)
            return await self._update(connection, subscription, **changes)


async def _lock_subscription(
    connection: Connection, workspace: WorkspaceId, name: str
) -> Subscription:
    """Return a subscription with its row locked. Raises NotFound."""
    subscription = await subscriptions.get_by_name_for_update(connection, workspace, name)
    if subscription is None:
        raise await _not_found(connection, workspace, name)
    return subscription


async def _not_found(connection: Connection, workspace: WorkspaceId, name: str) -> NotFound:
    existing = await subscriptions.list_subscriptions(connection, workspace)
    names = ", ".join(subscription.name for subscription in existing) or "none"
    return NotFound(f"no subscription {name!r}; there are {names}")
