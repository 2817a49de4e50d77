"""Carrying messages from the log to webhooks: each subscription goes its own way, at its own pace.

A turn reads what waits and what is new, sends, and writes down what came of it with how far it has read, in one transaction.
A process that dies in between sends the same again: with the same `webhook-id`, so that the receiver can drop it.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from libs.common.clock import Clock
from libs.common.db import published_messages as published
from libs.common.db.connection import Connection, SessionPool
from libs.common.db.published_messages import Cursor, PublishedMessage
from libs.common.db.unit_of_work import unit_of_work
from libs.common.failpoints import hit
from libs.common.instants import to_iso
from libs.common.observability import metrics
from libs.common.observability.tracing import start_span
from libs.common.retry import RandomSource
from services.orchestrator.subscriptions import repository
from services.orchestrator.subscriptions.repository import AttemptRow
from services.orchestrator.subscriptions.subscription import (
    CIRCUIT_OPEN_AFTER,
    DeliveryAttempt,
    DueMessage,
    Place,
    Subscription,
    evaluate_attempts,
    plan_chains,
)
from services.orchestrator.webhooks import standard_webhooks
from services.orchestrator.webhooks.standard_webhooks import WebhookAnswer

READ_BATCH = 200
MAX_WAITING = 10_000
"""With more than this waiting, nothing new is read."""
ROUND_SECONDS = 20.0
"""How long a turn begins something new."""
MAX_PARALLEL = 8
"""Contacts whose messages are under way at once."""
_ERASED = WebhookAnswer(204, "")
_encoder = msgspec.json.Encoder()


class WebhookSender(Protocol):
    """What a turn needs of the network."""

    async def post(
        self, url: str, headers: Sequence[tuple[str, str]], body: bytes
    ) -> WebhookAnswer:
        """Post once. Never raises: every fault is an Answer."""
        ...


class DeliveryRound(msgspec.Struct):
    """What a turn has before it."""

    subscription: Subscription
    place: Cursor
    """Behind what was read."""
    chains: list[list[DueMessage]]
    behind: list[DueMessage]
    messages: Mapping[Place, PublishedMessage]
    ends: float
    """When nothing more is begun, on the monotonic clock: what was tried has to be written down before long."""
    answered: int = 0
    refused: int = 0
    """Failures in a row: with too many, what was not tried yet is left for later."""


class SubscriptionDelivery:
    """Takes turns for subscriptions."""

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

    async def deliver_round(self, number: int, leaving: asyncio.Event | None = None) -> bool:
        """Send what a subscription has before it, a window at most; return whether there may be more.

        Once `leaving` is set nothing more is begun; what was tried is written down.
        """
        async with self._sessions.acquire() as connection:
            turn = await self._read(connection, number)
        if turn is None:
            return False
        attempts: list[AttemptRow] = []
        gate = asyncio.Semaphore(MAX_PARALLEL)
        left = leaving or asyncio.Event()
        tried = await asyncio.gather(
            *(self._send(turn, chain, gate, attempts, left) for chain in turn.chains)
        )
        if attempts:
            hit("after_webhooks")
        async with self._sessions.acquire() as connection, unit_of_work(connection):
            return await self._record(connection, turn, tried, attempts)

    async def _read(self, connection: Connection, number: int) -> DeliveryRound | None:
        """Return what is to be done, or None when there is nothing, or nothing yet."""
        found = await repository.get_by_number(connection, number)
        now = self._clock.now()
        if found is None or found.status != "active" or found.health.pause_until > now:
            return None
        waits = await repository.list_waiting(connection, found.subscription_id, READ_BATCH)
        rows: list[PublishedMessage] = []
        place = found.place
        if await repository.count_waiting(connection, found.subscription_id) < MAX_WAITING:
            rows, place = await published.list_after(
                connection, found.workspace, found.place, self._shards, READ_BATCH
            )
        wanted = [
            row for row in rows if found.selection.matches(found.workspace, row.kind, row.value)
        ]
        blocked = await repository.list_blocked_keys(
            connection, found.subscription_id, [row.key for row in wanted]
        )
        if (
            found.health.is_down
        ):  # one that waits, and one about somebody else: a receiver that takes either is back
            last = next(
                (number for number, row in enumerate(wanted) if row.key not in blocked),
                len(wanted) - 1,
            )
            wanted = wanted[: last + 1]
            place = _up_to(found.place, rows, wanted[-1]) if wanted else place
            waits = [msgspec.structs.replace(waits[0], due_at=0)] if waits else []
        fresh = [DueMessage((row.shard, row.position), row.key) for row in wanted]
        going = plan_chains(waits, fresh, blocked, now)
        return await self._turn(
            connection, found, place, going, {(row.shard, row.position): row for row in wanted}
        )

    async def _turn(
        self,
        connection: Connection,
        found: Subscription,
        place: Cursor,
        going: tuple[list[list[DueMessage]], list[DueMessage]],
        messages: dict[Place, PublishedMessage],
    ) -> DeliveryRound | None:
        if place == found.place and not going[0]:
            return None
        stored = [due.place for chain in going[0] for due in chain if due.place not in messages]
        messages.update(await published.get_by_position(connection, found.workspace, stored))
        return DeliveryRound(
            found, place, going[0], going[1], messages, time.monotonic() + ROUND_SECONDS
        )

    async def _send(
        self,
        turn: DeliveryRound,
        chain: Sequence[DueMessage],
        gate: asyncio.Semaphore,
        attempts: list[AttemptRow],
        leaving: asyncio.Event,
    ) -> list[DeliveryAttempt]:
        """Send a contact's messages one after the other, up to the first that is not taken."""
        tried: list[DeliveryAttempt] = []
        for due in chain:
            async with gate:
                if (
                    turn.refused >= CIRCUIT_OPEN_AFTER
                    or leaving.is_set()
                    or time.monotonic() > turn.ends
                ):
                    break
                message = turn.messages.get(due.place)
                if message is None:  # erased since
                    tried.append(DeliveryAttempt(due, _ERASED, sent=False))
                    continue
                answer = await self._attempt(turn, due, message, attempts)
            turn.answered += 1
            tried.append(DeliveryAttempt(due, answer, turn.answered))
            turn.refused = 0 if answer.meaning == "delivered" else turn.refused + 1
            if turn.refused:
                break
        return tried

    async def _attempt(
        self,
        turn: DeliveryRound,
        due: DueMessage,
        message: PublishedMessage,
        attempts: list[AttemptRow],
    ) -> WebhookAnswer:
        now, begun = self._clock.now(), time.monotonic()
        body = webhook_body(message)
        signed = standard_webhooks.signed_headers(
            turn.subscription.secrets, message.message_id, now, body
        )
        with start_span("deliver webhook", "CLIENT", message.trace) as trace:
            passed_on = [("traceparent", trace.decode())] if trace is not None else []
            answer = await self._sender.post(turn.subscription.url, [*signed, *passed_on], body)
        took = int((time.monotonic() - begun) * 1000)
        attempts.append(
            AttemptRow(
                message.message_id, *due.place, message.kind, due.key, due.attempts + 1, now, took, answer.status,
                answer.detail if answer.meaning != "delivered" else "",
            )
        )  # fmt: skip
        metrics.WEBHOOKS.labels(outcome=answer.meaning).inc()
        return answer

    async def _record(
        self,
        connection: Connection,
        turn: DeliveryRound,
        tried: Sequence[Sequence[DeliveryAttempt]],
        attempts: Sequence[AttemptRow],
    ) -> bool:
        seen = turn.subscription
        now = await repository.get_by_number(connection, seen.number, hold=True)
        if now is None or (now.place, now.url) != (seen.place, seen.url):
            return True  # another process has moved it, or the operator: look again
        by_key = {chain[0].key: found for chain, found in zip(turn.chains, tried, strict=True)}
        verdict = evaluate_attempts(now, by_key, turn.chains, self._clock.now(), self._chance)
        verdict.behind += turn.behind
        await repository.update_progress(connection, now, turn.place, verdict)
        await repository.insert_attempts(connection, seen.subscription_id, attempts)
        return not verdict.health.is_down and verdict.status == "active"


def webhook_body(message: PublishedMessage) -> bytes:
    """Return what a receiver is sent: type, timestamp and the message as it lies on the topic."""
    happened = msgspec.json.decode(message.value, type=_Happened).occurred_at
    return _encoder.encode(
        {
            "type": message.kind.replace("-", "_"),
            "timestamp": to_iso(happened),
            "data": msgspec.Raw(message.value),
        }
    )


class _Happened(msgspec.Struct):
    occurred_at: int


def _up_to(place: Cursor, rows: Sequence[PublishedMessage], last: PublishedMessage) -> Cursor:
    """Return the cursor behind `last`, in the order in which the rows came."""
    read = rows[: rows.index(last) + 1]
    return {**place, **{row.shard: row.position for row in read}}
