"""Sending: what is decided is reserved, tried, and its outcome written down.

An action is reserved (`sending`) in a committed row before the call, under its id; the outcome follows in the next transaction. A
process that dies between the two leaves reservations that run out: where the receiver drops repeats by their id, such an attempt
is made again; elsewhere the action is `in_doubt` and is not sent again, since it may have arrived.
"""

import asyncio
from collections.abc import Mapping, Sequence

from libs.common.clock import Clock
from libs.common.db.connection import Connection, SessionPool
from libs.common.db.outbox import Outbox
from libs.common.db.unit_of_work import unit_of_work
from libs.common.failpoints import hit
from libs.common.instants import SECOND
from libs.common.messages.action import ActionStatus, Outcome
from libs.common.observability import logs, metrics
from libs.common.retry import RandomSource, backoff
from services.orchestrator.channels import Channel
from services.orchestrator.domain.audience import email_sha256
from services.orchestrator.domain.letter import Result
from services.orchestrator.handlers.decided import Decided
from services.orchestrator.handlers.judging import Judging
from services.orchestrator.handlers.telling import sent_touchpoint
from services.orchestrator.handlers.turn import Lane, Reserved
from services.orchestrator.repository import actions as repository
from services.orchestrator.repository import consents
from services.orchestrator.repository.actions import Became

log = logs.get_logger(__name__)
MAX_ATTEMPTS = 24
"""With waits of up to an hour that is half a day: a provider that is away for the night fails nothing."""


class Dispatcher:
    """Takes due actions through decision, channel and record."""

    def __init__(
        self,
        sessions: SessionPool,
        outbox: Outbox,
        judging: Judging,
        channels: Mapping[str, Channel],
        clock: Clock,
        chance: RandomSource,
    ) -> None:
        self._sessions = sessions
        self._outbox = outbox
        self._judging = judging
        self._channels = channels
        self._clock = clock
        self._chance = chance

    async def lanes(self) -> list[Lane]:
        """Return the lanes on which something is due."""
        async with self._sessions.acquire() as connection:
            return await repository.lanes(connection, self._clock.now())

    async def turn(self, lane: Lane) -> tuple[bool, bool]:
        """Decide and send what has waited longest on a lane; return whether there may be more, and whether the lane is well.

        It is not when no attempt was taken or refused: then nobody seems to be there.
        """
        async with self._sessions.acquire() as connection, unit_of_work(connection):
            found = await self._judging.decide(connection, lane)
        if not found:
            return found is not None, True
        hit("after_reserve")
        results = await asyncio.gather(*(self._send(one) for one in found))
        hit("after_send")
        async with self._sessions.acquire() as connection, unit_of_work(connection):
            await self._record(connection, found, results)
        return True, any(result.outcome != "again" for result in results)

    async def _send(self, one: Reserved) -> Result:
        try:
            return await self._channels[one.action.channel].send(one.letter)
        except Exception as error:  # nobody foresaw it: the attempt has an outcome all the same
            log.exception("channel_failed", channel=one.action.channel)
            return Result("unknown", f"{type(error).__name__} in the channel")

    async def _record(self, connection: Connection, found: Sequence[Reserved], results: Sequence[Result]) -> None:
        """Write down outcomes: sent, to be tried again, failed, or in doubt."""
        decided = Decided(self._clock.now())
        now, echoes, shown = decided.now, list[bytes](), list[tuple[str, str, int]]()
        gone: list[tuple[str, str, str]] = []
        for one, result in zip(found, results, strict=True):
            action, contact = one.action, one.facts.contact_id
            idempotent = self._channels[action.channel].idempotent
            status, outcome, due = consequence(one.attempt, result, now, self._chance(), idempotent=idempotent)
            metrics.DELIVERIES.labels(channel=action.channel, outcome=outcome).inc()
            decided.tried(action, outcome, result.detail, one.attempt)
            data = one.letter.data if action.channel == "kafka" else {}
            became = Became(status, result.detail, due, one.attempt, action.content, outcome, data=data)
            decided.conclude(action, contact, became)
            if status == "sent":
                echo = sent_touchpoint(action, one.facts, now)
                echoes += [echo] if echo is not None else []
            if action.content and status in ("sent", "in_doubt"):
                shown.append((contact, action.content, now))
            if result.gone:
                gone.append((action.workspace, email_sha256(one.letter.address), "bounced"))
        await decided.write(connection, self._outbox)
        await consents.suppress_addresses(connection, gone)
        await repository.put_echoes(connection, echoes)
        await repository.expose(connection, shown)


def consequence(
    attempt: int, result: Result, now: int, chance: float, *, idempotent: bool
) -> tuple[ActionStatus, Outcome, int]:
    """Return (status, outcome, due) of an attempt's result. What may have arrived goes again only where repeats are dropped."""
    if result.outcome == "delivered":
        return "sent", "delivered", 0
    if result.outcome == "unknown" and not idempotent:
        return "in_doubt", "unknown", 0
    if result.outcome in ("again", "unknown") and attempt < MAX_ATTEMPTS:
        wait = backoff(attempt, base=2 * SECOND, cap=3600 * SECOND, chance=chance)
        return "pending", "retried", now + max(wait, result.pause or 0)
    return "failed", "failed", 0
