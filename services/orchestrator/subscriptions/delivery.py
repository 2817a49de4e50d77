"""Delivery of messages from the published-message log to webhooks, one subscription at a time.

A delivery round reads waiting and new messages, sends them, and stores the outcome with the new
cursor in one transaction. A process that dies in between sends the same messages again, with the
same `webhook-id`, so that the receiver can drop the repeats.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from libs.common.clock import Clock
from libs.common.db import published_messages as published
from libs.common.db.connection import Connection, SessionPool
from libs.common.db.published_messages import Cursor, LogPosition, PublishedMessage
from libs.common.db.unit_of_work import unit_of_work
from libs.common.failpoints import hit
from libs.common.instants import to_iso
from libs.common.observability import metrics
from libs.common.observability.tracing import start_span
from libs.common.retry import RandomSource
from services.orchestrator.subscriptions.repository import (
    delivery_log,
    progress,
    retry_queue,
    subscriptions,
)
from services.orchestrator.subscriptions.repository.delivery_log import AttemptRow
from services.orchestrator.subscriptions.subscription import (
    CIRCUIT_OPEN_AFTER,
    DeliveryAttempt,
    DueMessage,
    Subscription,
    evaluate_attempts,
    plan_chains,
)
from services.orchestrator.webhooks import standard_webhooks
from services.orchestrator.webhooks.standard_webhooks import WebhookAnswer

READ_BATCH = 200
MAX_WAITING = 10_000
"""Limit of waiting messages beyond which no new messages are read."""
ROUND_SECONDS = 20.0
"""Time during which a round starts new attempts."""
MAX_PARALLEL = 8
"""Number of contacts whose messages are sent concurrently."""
_ERASED = WebhookAnswer(204, "")
_encoder = msgspec.json.Encoder()


class WebhookSender(Protocol):
    """The network interface of a delivery round."""

    async def post(
        self, url: str, headers: Sequence[tuple[str, str]], body: bytes
    ) -> WebhookAnswer:
        """Post once. Never raises: every fault is returned as a WebhookAnswer."""
        ...


class DeliveryRound(msgspec.Struct):
    """The work of one round for a subscription."""

    subscription: Subscription
    cursor: Cursor
    """The cursor after the messages that were read."""
    chains: list[list[DueMessage]]
    behind: list[DueMessage]
    messages: Mapping[LogPosition, PublishedMessage]
    deadline: float
    """Monotonic time after which no attempt is started, so that outcomes are stored soon."""
    answered: int = 0
    failures: int = 0
    """Consecutive failures; at `CIRCUIT_OPEN_AFTER` the remaining messages are left for later."""


class SubscriptionDelivery:
    """Runs delivery rounds for subscriptions."""

    def __init__(
        self,
        sessions: SessionPool,
        sender: WebhookSender,
        clock: Clock,
        shards: int,
        chance: RandomSource,
    ) -> None:
        self._sessions = sessions
        self._sender = sender
        self._clock = clock
        self._shards = shards
        self._chance = chance

    async def deliver_round(self, number: int, stopping: asyncio.Event | None = None) -> bool:
        """Send a subscription's due messages, at most a batch; return whether more may be due.

        Once `stopping` is set no attempt is started; outcomes of earlier attempts are stored.
        """
        async with self._sessions.acquire() as connection:
            delivery_round = await self._read_round(connection, number)
        if delivery_round is None:
            return False
        attempts: list[AttemptRow] = []
        limit = asyncio.Semaphore(MAX_PARALLEL)
        stop = stopping or asyncio.Event()
        attempts_by_chain = await asyncio.gather(
            *(
                self._send_chain(delivery_round, chain, limit, attempts, stop)
                for chain in delivery_round.chains
            )
        )
        if attempts:
            hit("after_webhooks")
        async with self._sessions.acquire() as connection, unit_of_work(connection):
            return await self._record(connection, delivery_round, attempts_by_chain, attempts)

    async def seconds_until_due(self, number: int) -> float | None:
        """Return the seconds until a waiting message of a subscription is due, or None."""
        async with self._sessions.acquire() as connection:
            return await retry_queue.get_seconds_until_due(connection, number, self._clock.now())

    async def _read_round(self, connection: Connection, number: int) -> DeliveryRound | None:
        """Return the next round, or None if no message is due."""
        subscription = await subscriptions.get_by_number(connection, number)
        now = self._clock.now()
        if subscription is None or subscription.status != "active":
            return None
        if subscription.health.pause_until > now:
            return None
        subscription_id, workspace = subscription.subscription_id, subscription.workspace
        waiting = await retry_queue.list_waiting(connection, subscription_id, READ_BATCH)
        rows: list[PublishedMessage] = []
        cursor = subscription.cursor
        if await retry_queue.count_waiting(connection, subscription_id) < MAX_WAITING:
            rows, cursor = await published.list_after(
                connection, workspace, subscription.cursor, self._shards, READ_BATCH
            )
        wanted = [r for r in rows if subscription.selection.matches(workspace, r.kind, r.value)]
        blocked = await retry_queue.list_blocked_keys(
            connection, subscription_id, [row.key for row in wanted]
        )
        if subscription.health.is_down:
            # Probe with one waiting message and one new message about another contact: a receiver
            # that accepts either is back.
            last = next(
                (number for number, row in enumerate(wanted) if row.key not in blocked),
                len(wanted) - 1,
            )
            wanted = wanted[: last + 1]
            cursor = _cursor_after(subscription.cursor, rows, wanted[-1]) if wanted else cursor
            waiting = [msgspec.structs.replace(waiting[0], due_at=0)] if waiting else []
        fresh = [DueMessage(LogPosition(row.shard, row.position), row.key) for row in wanted]
        plan = plan_chains(waiting, fresh, blocked, now)
        messages = {LogPosition(row.shard, row.position): row for row in wanted}
        return await self._build_round(connection, subscription, cursor, plan, messages)

    async def _build_round(
        self,
        connection: Connection,
        subscription: Subscription,
        cursor: Cursor,
        plan: tuple[list[list[DueMessage]], list[DueMessage]],
        messages: dict[LogPosition, PublishedMessage],
    ) -> DeliveryRound | None:
        """Return the round with its waiting messages read from the log, or None if it is empty."""
        chains, behind = plan
        if cursor == subscription.cursor and not chains:
            return None
        stored = [
            due.log_position
            for chain in chains
            for due in chain
            if due.log_position not in messages
        ]
        messages.update(await published.get_by_position(connection, subscription.workspace, stored))
        deadline = time.monotonic() + ROUND_SECONDS
        return DeliveryRound(subscription, cursor, chains, behind, messages, deadline)

    async def _send_chain(
        self,
        delivery_round: DeliveryRound,
        chain: Sequence[DueMessage],
        limit: asyncio.Semaphore,
        attempts: list[AttemptRow],
        stop: asyncio.Event,
    ) -> list[DeliveryAttempt]:
        """Send a contact's messages in order, up to the first that is not delivered."""
        outcomes: list[DeliveryAttempt] = []
        for due in chain:
            async with limit:
                if (
                    delivery_round.failures >= CIRCUIT_OPEN_AFTER
                    or stop.is_set()
                    or time.monotonic() > delivery_round.deadline
                ):
                    break
                message = delivery_round.messages.get(due.log_position)
                if message is None:  # erased since
                    outcomes.append(DeliveryAttempt(due, _ERASED, sent=False))
                    continue
                answer = await self._attempt(delivery_round, due, message, attempts)
            delivery_round.answered += 1
            outcomes.append(DeliveryAttempt(due, answer, delivery_round.answered))
            delivery_round.failures = (
                0 if answer.meaning == "delivered" else delivery_round.failures + 1
            )
            if delivery_round.failures:
                break
        return outcomes

    async def _attempt(
        self,
        delivery_round: DeliveryRound,
        due: DueMessage,
        message: PublishedMessage,
        attempts: list[AttemptRow],
    ) -> WebhookAnswer:
        now, started = self._clock.now(), time.monotonic()
        body = webhook_body(message)
        subscription = delivery_round.subscription
        signed = standard_webhooks.signed_headers(
            subscription.secrets, message.message_id, now, body
        )
        with start_span("deliver webhook", "CLIENT", message.trace) as trace:
            trace_headers = [("traceparent", trace.decode())] if trace is not None else []
            answer = await self._sender.post(subscription.url, [*signed, *trace_headers], body)
        milliseconds = int((time.monotonic() - started) * 1000)
        attempts.append(
            AttemptRow(
                message.message_id, *due.log_position, message.kind, due.key, due.attempts + 1,
                now, milliseconds, answer.status,
                answer.detail if answer.meaning != "delivered" else "",
            )
        )  # fmt: skip
        metrics.WEBHOOKS.labels(outcome=answer.meaning).inc()
        return answer

    async def _record(
        self,
        connection: Connection,
        delivery_round: DeliveryRound,
        attempts_by_chain: Sequence[Sequence[DeliveryAttempt]],
        attempts: Sequence[AttemptRow],
    ) -> bool:
        """Store the outcome of a round; return whether more may be due."""
        read = delivery_round.subscription
        locked = await subscriptions.get_by_number_for_update(connection, read.number)
        if locked is None or (locked.cursor, locked.url) != (read.cursor, read.url):
            return True  # another process or the operator has changed it: read it again
        chains = delivery_round.chains
        by_key = {
            chain[0].key: outcomes
            for chain, outcomes in zip(chains, attempts_by_chain, strict=True)
        }
        verdict = evaluate_attempts(locked, by_key, chains, self._clock.now(), self._chance)
        verdict.behind += delivery_round.behind
        await progress.update_progress(connection, locked, delivery_round.cursor, verdict)
        await delivery_log.insert_attempts(connection, read.subscription_id, attempts)
        return not verdict.health.is_down and verdict.status == "active"


def webhook_body(message: PublishedMessage) -> bytes:
    """Return the body of a delivery: type, timestamp and the published message."""
    occurred_at = msgspec.json.decode(message.value, type=_OccurredAt).occurred_at
    return _encoder.encode(
        {
            "type": message.kind.replace("-", "_"),
            "timestamp": to_iso(occurred_at),
            "data": msgspec.Raw(message.value),
        }
    )


class _OccurredAt(msgspec.Struct):
    occurred_at: int


def _cursor_after(
    cursor: Cursor, rows: Sequence[PublishedMessage], last: PublishedMessage
) -> Cursor:
    """Return the cursor after `last`, in the order of the rows."""
    read = rows[: rows.index(last) + 1]
    return {**cursor, **{row.shard: row.position for row in read}}
