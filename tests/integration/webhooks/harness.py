"""What carries webhooks, on a database of its own."""

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
    """A clock that runs faster than time."""

    def __init__(self, speed):
        self.begun, self.real, self.speed = SystemClock().now(), time.monotonic(), speed

    def now(self):
        return self.begun + int((time.monotonic() - self.real) * SECOND * self.speed)


class Bench:
    """What carries webhooks, on a database of its own; what a relay would have moved to the log is put there."""

    def __init__(self, database, clock=None):
        self.database, self.clock = database, clock or SystemClock()
        self.sessions = [Session(database, f"test-{n}") for n in range(4)]
        self.post = WebhookClient(self.clock, private=True)
        self.desk = SubscriptionService(self.sessions[0], self.post.check_url, self.clock, SHARDS)
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

    async def create(self, url, name="crm", **wanted):
        return await self.desk.create("default", name, url, MessageFilter(**wanted))

    async def turns(self, number=1, most=50):
        """Take turns until nothing is left to do now."""
        for _ in range(most):
            if not await self.delivering.deliver_round(number):
                return

    async def state(self):
        """What an operator would look at when nothing moves."""
        shown = await self.desk.get("default", "crm")
        async with self.sessions[0].acquire() as connection:
            row = await connection.fetchrow("SELECT * FROM orchestrator.subscriptions")
            waits = await connection.fetch(
                "SELECT * FROM orchestrator.subscription_waiting ORDER BY position LIMIT 5"
            )
        tasks = [(t.task, t.stopping.is_set()) for t in self.running._tasks.values()]
        return (
            self.clock.now(),
            shown.backlog,
            shown.attempts[:3],
            dict(row),
            [dict(r) for r in waits],
            tasks,
        )

    def webhooks(self):
        self.running = SubscriptionTasks(self.database, self.pool, self.delivering, self.clock)
        return self.running

    async def close(self):
        await self.post.close()
        for session in self.sessions:
            await session.close()


def in_order(receiver):
    """What each contact's receiver took, without repeats."""
    seen: dict[str, list[int]] = {}
    for data in receiver:
        numbers = seen.setdefault(data["contact_id"], [])
        if data["sequence"] not in numbers:
            numbers.append(data["sequence"])
    return seen
