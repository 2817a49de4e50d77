"""Faults of scoring under load: kills, pauses, rebalances; and touchpoints sent to the topic."""

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import Iterator

import psutil

from cli.servers.managed_process import ManagedProcess
from cli.servers.service import ServiceProcess
from libs.common.ids import WorkspaceId
from libs.common.kafka.publisher import Publisher
from libs.common.messages import Message, Touchpoint, build_message
from tests.support.instance import Instance
from tests.support.waiting import last, wait_until

NAMES = (
    "Product Viewed",
    "Product Added",
    "Content Downloaded",
    "Order Completed",
    "Support Ticket Opened",
)
MALFORMED_VALUES = (
    b"",
    b"not json",
    b"{}",
    b"\xff\xfe",
    b"[" * 5_000,
    b'{"workspace":1}',
    b'{"a":"\\u0000"}',
)


class ScoringFaults:
    """Kills and pauses scoring under load."""

    def __init__(self, instance: Instance, seed: int) -> None:
        self.instance = instance
        self.chance = random.Random(seed)
        self.kills = 0
        self.pauses = 0
        self.joins = 0

    def count_fenced(self) -> int:
        """Return the number of transactions fenced so far."""
        return self.count_logged("fenced")

    def count_logged(self, event: str) -> int:
        """Return the number of times that scoring has logged an event."""
        logs = self.instance.stack.home.folder.glob("logs/scoring*.log")
        return sum(log.read_text().count(f'"event": "{event}"') for log in logs)

    async def kill(self) -> None:
        """Kill an instance and start it again."""
        name = self.chance.choice(["scoring", "scoring-2"])
        await last(self.chance.random())
        self.instance.signal(name, signal.SIGKILL)
        self.kills += 1
        await last(self.chance.random())
        await asyncio.to_thread(self.instance.up, 2)

    async def pause(self) -> None:
        """Stop an instance beyond its session timeout, and let it continue as a zombie."""
        name = self.chance.choice(["scoring", "scoring-2"])
        self.instance.signal(name, signal.SIGSTOP)
        await last(self.instance.servers.session_timeout_ms / 1000 * 2)
        self.instance.signal(name, signal.SIGCONT)
        self.pauses += 1
        await last(1)

    async def freeze(self) -> None:
        """Stop an instance before its fence until all partitions have advanced without it.

        Unlike after `pause`, this zombie is fenced nearly always, as long as touchpoints flow.
        """
        name = self.chance.choice(["scoring", "scoring-2"])
        armed = {**self.instance.environment, "PERIGEE_FAILPOINT": "before_fence:1:stop"}
        service = ServiceProcess(self.instance.stack.home, name, armed)
        # Stopped first: a process that was frozen before has the same settings, and its failpoint
        # is used up.
        await asyncio.to_thread(service.stop)
        await asyncio.to_thread(service.start)
        process = psutil.Process(self.instance.pid(name))
        fenced_before = self.count_fenced()
        await wait_until(
            lambda: process.status() == psutil.STATUS_STOPPED,
            120,
            "the failpoint: do touchpoints flow?",
        )
        offsets = await self._offsets()

        async def all_partitions_advanced() -> bool:
            now = await self._offsets()
            return all(offsets.get(partition) != offset for partition, offset in now.items())

        # After a minute PostgreSQL would end the transaction, and there would be no fence to lose.
        with contextlib.suppress(AssertionError):
            await wait_until(all_partitions_advanced, 40, every=0.2)
        process.send_signal(signal.SIGCONT)
        self.pauses += 1
        with contextlib.suppress(AssertionError):
            await wait_until(lambda: self.count_fenced() > fenced_before, 20, every=0.2)

    async def _offsets(self) -> dict[int, int]:
        rows = await self.instance.fetch(
            "SELECT partition, next_offset FROM scoring.offsets WHERE topic = 'touchpoints'"
        )
        return {r[0]: r[1] for r in rows}

    async def rebalance(self) -> None:
        """Let a third instance join and leave, so that the group rebalances twice."""
        await asyncio.to_thread(self.instance.up, 3)
        self.joins += 1
        await last(0.5)
        await asyncio.to_thread(ManagedProcess(self.instance.stack.home, "scoring-3").stop)


class TouchpointStream:
    """Sends touchpoints to the topic; those of one contact are on several partitions."""

    def __init__(
        self, bootstrap_servers: str, seed: int, contacts: int, poison: float = 0.0
    ) -> None:
        self.publisher = Publisher(bootstrap_servers, linger_ms=5)
        self.chance = random.Random(seed)
        self.contacts = contacts
        self.poison = poison
        self.sent = 0
        self.poisoned = 0

    def touchpoints(self, count: int, at: int | None = None) -> Iterator[Touchpoint]:
        """Yield new touchpoints: with a user, with a device alone, or with a login."""
        for _ in range(count):
            self.sent += 1
            number = self.chance.randrange(self.contacts)
            device = f"d{number}-{self.chance.randrange(2)}"
            now = time.time_ns() // 1_000 if at is None else at
            shape = self.chance.random()
            yield Touchpoint(
                workspace=WorkspaceId("default"), source="torrent", message_id=f"t{self.sent}",
                type="identify" if shape < 0.05 else "track",
                name="" if shape < 0.05 else self.chance.choice(NAMES),
                occurred_at=now - self.chance.choice([0, 0, 0, 0, 50_000_000]), received_at=now,
                user_id=f"p{number}" if shape < 0.6 else None,
                anonymous_id=device if shape < 0.1 or shape >= 0.6 else None,
            )  # fmt: skip

    async def send(self, count: int, at: int | None = None) -> None:
        """Publish touchpoints, with malformed records between them."""
        messages: list[Message] = []
        for t in self.touchpoints(count, at):
            messages.append(
                build_message(
                    t,
                    key=t.routing_key(),
                    message_id=t.message_id,
                    source="/torrent",
                    time=t.occurred_at,
                )
            )
            if self.chance.random() < self.poison:
                messages.append(
                    Message(
                        "touchpoints",
                        b"p%d" % self.poisoned,
                        MALFORMED_VALUES[self.poisoned % len(MALFORMED_VALUES)],
                        [],
                    )
                )
                self.poisoned += 1
        for start in range(0, len(messages), 2_000):
            faults = await self.publisher.publish(messages[start : start + 2_000], 30)
            assert not any(faults), next(f for f in faults if f)

    async def close(self) -> None:
        """Close the producer."""
        await self.publisher.close()
