"""Sending: due actions pass the gate, are reserved, tried, and their outcome is written down.

An action is reserved (`sending`) in a committed row before the call, under its id; the outcome follows in the next
transaction. A process that dies between the two leaves a reservation that runs out: such an action is `in_doubt`, and
is not sent again, since the mail may have arrived.
"""

import random
from collections.abc import Mapping, Sequence

import msgspec

from libs.common.clock import SECOND, Clock
from libs.common.db.connection import Connection, Session
from libs.common.db.outbox import Outbox
from libs.common.db.unit_of_work import unit_of_work
from libs.common.errors import InvalidMessage
from libs.common.failpoints import reach
from libs.common.messages.action import ActionStatus, Outcome
from libs.common.observability import metrics
from libs.common.retry import backoff
from services.orchestrator.channels import Channel, Letter, Result
from services.orchestrator.domain.gate import Rules, judge
from services.orchestrator.domain.ledger import in_holdout
from services.orchestrator.domain.play import Play, Step
from services.orchestrator.domain.template import render
from services.orchestrator.domain.token import sign
from services.orchestrator.handlers.telling import action_message, sent_touchpoint
from services.orchestrator.repository import actions as repository
from services.orchestrator.repository.actions import ActionRow, ContactRow

AT_ONCE = 20
MAX_ATTEMPTS = 8


class Reserved(msgspec.Struct, frozen=True):
    """An attempt that is written down and not made yet."""

    action: ActionRow
    who: ContactRow
    attempt: int
    letter: Letter


class Dispatcher:
    """Takes due actions through gate, reservation, channel and record."""

    def __init__(
        self,
        session: Session,
        outbox: Outbox,
        plays: Sequence[Play],
        channels: Mapping[str, Channel],
        rules: Rules,
        clock: Clock,
        unsubscribe: tuple[str, str],
    ) -> None:
        self._session = session
        self._outbox = outbox
        self._plays = {play.play: play for play in plays}
        self._channels = channels
        self._rules = rules
        self._clock = clock
        self._base_url, self._secret = unsubscribe

    async def run_due(self) -> bool:
        """Decide and send what is due, one action after the other; return whether there may be more.

        One at a time: a process that dies leaves one action in doubt, not a row of them that were never tried.
        """
        for _ in range(AT_ONCE):
            async with self._session.use() as connection, unit_of_work(connection):
                due = await repository.due_actions(connection, self._clock.now(), 1)
                reserved = await self._decide(connection, due[0]) if due else None
            if not due:
                return False
            if reserved is not None:
                await self._attempt(reserved)
        return True

    async def _attempt(self, reserved: Reserved) -> None:
        reach("after_reserve")
        result = await self._channels[reserved.action.channel].send(reserved.letter)
        reach("after_send")
        async with self._session.use() as connection, unit_of_work(connection):
            await self._record(connection, reserved, result)

    async def _decide(self, connection: Connection, action: ActionRow) -> Reserved | None:
        now = self._clock.now()
        if action.status == "sending":
            await repository.put_delivery(
                connection, action.action_id, action.attempts, "unknown", "the process ended during the attempt", now
            )
            await self._end(connection, action, "in_doubt", "attempt_without_outcome", outcome="unknown")
            return None
        play = self._plays.get(action.play)
        step = next((s for s in play.steps if s.name == action.step), None) if play else None
        if play is None or step is None:
            await self._end(connection, action, "skipped", "play_is_gone")
            return None
        who = await repository.contact(connection, action.contact_id)
        held_out = in_holdout(play.play, who.contact_id, play.holdout)
        facts = await repository.facts(connection, who, action, step.purpose, now, held_out=held_out)
        verdict = judge(facts, self._rules, now)
        if verdict.status == "send":
            return await self._reserve(connection, action, step, who, now)
        await self._end(connection, action, verdict.status, verdict.reason, due=verdict.until)
        return None

    async def _reserve(
        self, connection: Connection, action: ActionRow, step: Step, who: ContactRow, now: int
    ) -> Reserved | None:
        try:
            letter = self._letter(action, step, who)
        except InvalidMessage as error:
            await self._end(connection, action, "failed", f"template: {error.detail}"[:200])
            return None
        attempt = await repository.reserve(connection, action, who.contact_id, now)
        return Reserved(action, who, attempt, letter)

    def _letter(self, action: ActionRow, step: Step, who: ContactRow) -> Letter:
        url = f"{self._base_url}/u/{sign(self._secret, who.contact_id, action.channel)}"
        context = {"contact": {**who.traits, "id": who.contact_id}, "unsubscribe_url": url}
        mail = step.mail
        return Letter(
            action.action_id,
            str(who.traits["email"]),
            render(mail.subject, context),
            render(mail.text, context),
            render(mail.html, context, html=True) if mail.html else None,
            url,
        )

    async def _record(self, connection: Connection, attempt: Reserved, result: Result) -> None:
        """Write down an outcome: sent, to be tried again, failed, or in doubt."""
        action, now = attempt.action, self._clock.now()
        status, outcome, due = _consequence(attempt.attempt, result, now)
        metrics.DELIVERIES.labels(channel=action.channel, outcome=outcome).inc()
        await repository.put_delivery(connection, action.action_id, attempt.attempt, outcome, result.detail, now)
        await self._end(connection, action, status, result.detail, due=due, outcome=outcome, attempt=attempt.attempt)
        if status == "sent":
            body = sent_touchpoint(action, attempt.who, now)
            if body is not None:
                await repository.put_echo(connection, body)

    async def _end(
        self,
        connection: Connection,
        action: ActionRow,
        status: ActionStatus,
        reason: str,
        *,
        due: int = 0,
        outcome: Outcome | None = None,
        attempt: int = 0,
    ) -> None:
        now = self._clock.now()
        await repository.conclude(connection, action.action_id, status, reason, now, due)
        message = action_message(
            action, action.contact_id, status=status, reason=reason, now=now, attempt=attempt, outcome=outcome
        )
        await self._outbox.write(connection, [message])
        metrics.ACTIONS.labels(channel=action.channel, status=status).inc()


def _consequence(attempt: int, result: Result, now: int) -> tuple[ActionStatus, Outcome, int]:
    """Return (status, outcome, due) of an attempt's result."""
    if result.outcome == "delivered":
        return "sent", "delivered", 0
    if result.outcome == "unknown":
        return "in_doubt", "unknown", 0
    if result.outcome == "again" and attempt < MAX_ATTEMPTS:
        wait = backoff(attempt, base=2 * SECOND, cap=3600 * SECOND, chance=random.random())  # noqa: S311 - jitter
        return "pending", "retried", now + wait
    return "failed", "failed", 0
