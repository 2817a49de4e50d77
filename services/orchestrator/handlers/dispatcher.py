"""Dispatcher: decides, reserves, attempts and records the actions of a dispatch lane.

An action is reserved (status `sending`) in a committed row before the call, under its id; the
outcome follows in the next transaction. If a process dies between the two, the reservation runs
out. Where the receiver drops repeats by their id, the attempt is made again. Elsewhere the action
is `in_doubt` and is not sent again, since it may have arrived.
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
from services.orchestrator.handlers.decision_state import ReservedAttempt
from services.orchestrator.repository import actions, consents, echoes, exposures
from services.orchestrator.repository.actions import ActionOutcome, DispatchLane

log = logs.get_logger(__name__)
MAX_ATTEMPTS = 24
"""With waits of up to an hour, half a day: actions survive a provider's outage of one night."""


class Dispatcher:
    """Sends the due actions of dispatch lanes."""

    def __init__(
        self,
        sessions: SessionPool,
        outbox: Outbox,
        decider: ActionDecider,
        channels: Mapping[str, Channel],
        clock: Clock,
        chance: RandomSource,
    ) -> None:
        self._sessions = sessions
        self._outbox = outbox
        self._decider = decider
        self._channels = channels
        self._clock = clock
        self._chance = chance

    async def list_lanes(self) -> list[DispatchLane]:
        """Return the lanes with due actions."""
        async with self._sessions.acquire() as connection:
            due_times = await actions.get_lanes(connection)
        now = self._clock.now()
        return [lane for lane, due_at in due_times.items() if due_at <= now]

    async def get_lane_delays(self) -> dict[DispatchLane, float]:
        """Return the seconds until each lane with open actions is due; at most 0 if it is due."""
        async with self._sessions.acquire() as connection:
            due_times = await actions.get_lanes(connection)
        now = self._clock.now()
        return {lane: (due_at - now) / SECOND for lane, due_at in due_times.items()}

    async def dispatch_batch(self, lane: DispatchLane) -> tuple[bool, bool]:
        """Decide and send the longest due actions of a lane.

        Return (whether to go on, whether the lane is healthy). A lane is not healthy if each
        attempt has to be repeated: then its receiver seems to be down.
        """
        async with self._sessions.acquire() as connection, unit_of_work(connection):
            reserved = await self._decider.decide_due(connection, lane)
        if not reserved:
            return reserved is not None, True
        hit("after_reserve")
        results = await asyncio.gather(*(self._send(attempt) for attempt in reserved))
        hit("after_send")
        async with self._sessions.acquire() as connection, unit_of_work(connection):
            await self._record(connection, reserved, results)
        return True, any(result.outcome != "again" for result in results)

    async def _send(self, reserved: ReservedAttempt) -> DeliveryResult:
        channel = reserved.action.channel
        try:
            return await self._channels[channel].send(reserved.message)
        except Exception as error:  # an unforeseen error is an outcome too
            log.exception("channel_failed", channel=channel)
            return DeliveryResult("unknown", f"{type(error).__name__} in the channel")

    async def _record(
        self,
        connection: Connection,
        reserved: Sequence[ReservedAttempt],
        results: Sequence[DeliveryResult],
    ) -> None:
        """Store the outcomes: sent, pending again, failed or in doubt."""
        batch = DecisionBatch(self._clock.now())
        now, echo_bodies, shown = batch.now, list[bytes](), list[tuple[str, str, int]]()
        bounced: list[tuple[str, str, str]] = []
        for attempt, result in zip(reserved, results, strict=True):
            action, contact = attempt.action, attempt.facts.contact_id
            is_idempotent = self._channels[action.channel].idempotent
            status, outcome, due = next_action_state(
                attempt.attempt, result, now, self._chance(), idempotent=is_idempotent
            )
            metrics.DELIVERIES.labels(channel=action.channel, outcome=outcome).inc()
            batch.add_attempt(action, outcome, result.detail, attempt.attempt)
            data = attempt.message.data if action.channel == "kafka" else {}
            batch.add_outcome(
                action,
                contact,
                ActionOutcome(
                    status, result.detail, due, attempt.attempt, action.content, outcome, data=data
                ),
            )
            if status == "sent":
                echo = sent_touchpoint(action, attempt.facts, now)
                echo_bodies += [echo] if echo is not None else []
            if action.content and status in ("sent", "in_doubt"):
                shown.append((contact, action.content, now))
            if result.gone:
                address = hash_email(attempt.message.address)
                bounced.append((action.workspace, address, "bounced"))
        await batch.save(connection, self._outbox)
        await consents.insert_address_suppressions(connection, bounced)
        await echoes.insert_echoes(connection, echo_bodies)
        await exposures.upsert_exposures(connection, shown)


def next_action_state(
    attempt: int, result: DeliveryResult, now: int, chance: float, *, idempotent: bool
) -> tuple[ActionStatus, Outcome, int]:
    """Return (status, outcome, due in µs UTC) after an attempt's result.

    An attempt that may have arrived is repeated only if the receiver drops repeats.
    """
    if result.outcome == "delivered":
        return "sent", "delivered", 0
    if result.outcome == "unknown" and not idempotent:
        return "in_doubt", "unknown", 0
    if result.outcome in ("again", "unknown") and attempt < MAX_ATTEMPTS:
        wait = backoff(attempt, base=2 * SECOND, cap=3600 * SECOND, chance=chance)
        return "pending", "retried", now + max(wait, result.pause or 0)
    return "failed", "failed", 0
