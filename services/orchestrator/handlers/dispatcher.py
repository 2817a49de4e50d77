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
from services.orchestrator.domain.ad_audience import hash_email
from services.orchestrator.domain.rendered_message import DeliveryResult
from services.orchestrator.handlers.action_decision import ActionDecider
from services.orchestrator.handlers.action_messages import sent_touchpoint
from services.orchestrator.handlers.decision_batch import DecisionBatch
from services.orchestrator.handlers.decision_state import DispatchLane, ReservedAttempt
from services.orchestrator.repository import actions as repository
from services.orchestrator.repository import consents
from services.orchestrator.repository.actions import ActionOutcome

log = logs.get_logger(__name__)
MAX_ATTEMPTS = 24
"""With waits of up to an hour that is half a day: a provider that is away for the night fails nothing."""


class Dispatcher:
    """Takes due actions through decision, channel and record."""

    def __init__(
        self,
        sessions: SessionPool,
        outbox: Outbox,
        judging: ActionDecider,
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

    async def list_lanes(self) -> list[DispatchLane]:
        """Return the lanes on which something is due."""
        async with self._sessions.acquire() as connection:
            due_times = await repository.get_lanes(connection)
        now = self._clock.now()
        return [lane for lane, due_at in due_times.items() if due_at <= now]

    async def get_lane_delays(self) -> dict[DispatchLane, float]:
        """Return the seconds until each lane with open actions is due; at most 0 if it is due."""
        async with self._sessions.acquire() as connection:
            due_times = await repository.get_lanes(connection)
        now = self._clock.now()
        return {lane: (due_at - now) / SECOND for lane, due_at in due_times.items()}

    async def dispatch_batch(self, lane: DispatchLane) -> tuple[bool, bool]:
        """Decide and send what has waited longest on a lane; return whether there may be more, and whether the lane is well.

        It is not when no attempt was taken or refused: then nobody seems to be there.
        """
        async with self._sessions.acquire() as connection, unit_of_work(connection):
            found = await self._judging.decide_due(connection, lane)
        if not found:
            return found is not None, True
        hit("after_reserve")
        results = await asyncio.gather(*(self._send(one) for one in found))
        hit("after_send")
        async with self._sessions.acquire() as connection, unit_of_work(connection):
            await self._record(connection, found, results)
        return True, any(result.outcome != "again" for result in results)

    async def _send(self, one: ReservedAttempt) -> DeliveryResult:
        try:
            return await self._channels[one.action.channel].send(one.letter)
        except Exception as error:  # nobody foresaw it: the attempt has an outcome all the same
            log.exception("channel_failed", channel=one.action.channel)
            return DeliveryResult("unknown", f"{type(error).__name__} in the channel")

    async def _record(
        self,
        connection: Connection,
        found: Sequence[ReservedAttempt],
        results: Sequence[DeliveryResult],
    ) -> None:
        """Write down outcomes: sent, to be tried again, failed, or in doubt."""
        decided = DecisionBatch(self._clock.now())
        now, echoes, shown = decided.now, list[bytes](), list[tuple[str, str, int]]()
        gone: list[tuple[str, str, str]] = []
        for one, result in zip(found, results, strict=True):
            action, contact = one.action, one.facts.contact_id
            idempotent = self._channels[action.channel].idempotent
            status, outcome, due = next_action_state(
                one.attempt, result, now, self._chance(), idempotent=idempotent
            )
            metrics.DELIVERIES.labels(channel=action.channel, outcome=outcome).inc()
            decided.add_attempt(action, outcome, result.detail, one.attempt)
            data = one.letter.data if action.channel == "kafka" else {}
            became = ActionOutcome(
                status, result.detail, due, one.attempt, action.content, outcome, data=data
            )
            decided.add_outcome(action, contact, became)
            if status == "sent":
                echo = sent_touchpoint(action, one.facts, now)
                echoes += [echo] if echo is not None else []
            if action.content and status in ("sent", "in_doubt"):
                shown.append((contact, action.content, now))
            if result.gone:
                gone.append((action.workspace, hash_email(one.letter.address), "bounced"))
        await decided.save(connection, self._outbox)
        await consents.insert_address_suppressions(connection, gone)
        await repository.insert_echoes(connection, echoes)
        await repository.upsert_exposures(connection, shown)


def next_action_state(
    attempt: int, result: DeliveryResult, now: int, chance: float, *, idempotent: bool
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
