"""Subscription delivery wired on a test database."""

import asyncio
import random
import time

import msgspec

from libs.common.clock import SystemClock
from libs.common.db import published_messages
from libs.common.db.connection import Session, SessionPool
from libs.common.db.outbox import Outbox
from libs.common.instants import SECOND
from libs.common.messages import StageChange, build_message
from libs.common.messages.message_filter import MessageFilter
from services.orchestrator.subscriptions.delivery import SubscriptionDelivery
from services.orchestrator.subscriptions.delivery_tasks import SubscriptionTasks
from services.orchestrator.subscriptions.service import SubscriptionService
from services.orchestrator.webhooks.http_client import WebhookClient
from tests.contract.golden import EXAMPLES

SHARDS = 3
PLAIN = EXAMPLES[1]
assert isinstance(PLAIN, StageChange)


class FastClock:
    """Clock that runs faster than time."""

    def __init__(self, speed):
        self.start, self.monotonic_start, self.speed = SystemClock().now(), time.monotonic(), speed

    def now(self):
        return self.start + int((time.monotonic() - self.monotonic_start) * SECOND * self.speed)


class DeliveryHarness:
    """Subscription delivery on a test database; `publish` writes to the published-message log."""

    def __init__(self, database, clock=None):
        self.database, self.clock = database, clock or SystemClock()
        self.sessions = [Session(database, f"test-{n}") for n in range(4)]
        self.post = WebhookClient(self.clock, private=True)
        self.service = SubscriptionService(
            self.sessions[0], self.post.check_url, self.clock, SHARDS
        )
        self.pool = SessionPool(self.sessions[1:])
        self.delivering = SubscriptionDelivery(
            self.pool, self.post, self.clock, SHARDS, random.Random(7).random
        )
        self.outbox = Outbox("scoring", SHARDS)
        self.sequences: dict[str, int] = {}
        self.stop = asyncio.Event()

    async def publish(self, *contacts, **changes):
        """Publish the next stage change of each contact; return their ids."""
        messages = []
        for contact in contacts:
            self.sequences[contact] = number = self.sequences.get(contact, 0) + 1
            change = msgspec.structs.replace(
                PLAIN, id=f"{contact}-{number}", contact_id=contact, sequence=number, **changes
            )
            messages.append(
                build_message(
                    change,
                    key=contact,
                    message_id=change.id,
                    source="/scoring",
                    time=PLAIN.occurred_at,
                )
            )
        async with self.sessions[0].acquire() as connection, connection.transaction():
            await self.outbox.insert_messages(connection, messages)
            rows = await connection.fetch("SELECT id FROM scoring.outbox")
            await published_messages.insert_from_outbox(
                connection, "scoring", [r[0] for r in rows], ["stage-changes", "signals"]
            )
            await connection.execute("NOTIFY scoring_log")
        return [dict(m.headers)["ce_id"].decode() for m in messages]

    async def create(self, url, name="crm", **filters):
        return await self.service.create("default", name, url, MessageFilter(**filters))

    async def deliver_all(self, number=1, max_rounds=50):
        """Run delivery rounds until none is due."""
        for _ in range(max_rounds):
            if not await self.delivering.deliver_round(number):
                return

    async def state(self):
        """Return the rows and tasks that explain a blocked delivery."""
        subscription = await self.service.get("default", "crm")
        async with self.sessions[0].acquire() as connection:
            row = await connection.fetchrow("SELECT * FROM orchestrator.subscriptions")
            waiting = await connection.fetch(
                "SELECT * FROM orchestrator.subscription_waiting ORDER BY position LIMIT 5"
            )
        tasks = [(t.task, t.stopping.is_set()) for t in self.running._tasks.values()]
        return (
            self.clock.now(),
            subscription.backlog,
            subscription.attempts[:3],
            dict(row),
            [dict(r) for r in waiting],
            tasks,
        )

    def webhooks(self):
        self.running = SubscriptionTasks(self.database, self.pool, self.delivering, self.clock)
        return self.running

    async def close(self):
        await self.post.close()
        for session in self.sessions:
            await session.close()


def sequences_by_contact(payloads):
    """Return the received sequence numbers by contact, without duplicates."""
    sequences: dict[str, list[int]] = {}
    for data in payloads:
        numbers = sequences.setdefault(data["contact_id"], [])
        if data["sequence"] not in numbers:
            numbers.append(data["sequence"])
    return sequences
