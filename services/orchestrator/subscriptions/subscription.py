"""Webhook subscription: order of messages, retries and receiver health, as pure functions.

Failures of messages and of receivers are separate. A *message* that the receiver does not accept
waits for its retry, and later messages about the same contact wait behind it; other contacts go on.
A *receiver* that accepts nothing is down: it is probed with one message at a time, no message is
given up meanwhile, and the subscription's cursor in the log does not move.
"""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Literal

import msgspec

from libs.common.db.published_messages import LogPosition
from libs.common.durations import parse_duration
from libs.common.ids import WorkspaceId
from libs.common.messages.message_filter import MessageFilter
from services.orchestrator.webhooks.standard_webhooks import (
    MAX_AGE,
    RETRY_DELAYS,
    FaultKind,
    SigningSecret,
    WebhookAnswer,
    retry_delay,
)

SubscriptionStatus = Literal["active", "paused", "disabled"]
CIRCUIT_OPEN_AFTER = 5
"""Failures since the last delivery after which a receiver is down.

Counted are contacts whose messages failed, or consecutive attempts that reached no receiver.
"""
_FIRST_PAUSE = parse_duration("5s")
_LONGEST_PAUSE = parse_duration("1m")
DISABLED_AFTER = parse_duration("7d")


class ReceiverHealth(msgspec.Struct, frozen=True):
    """Failures of a receiver since its last successful delivery; instants in µs UTC."""

    failing: tuple[str, ...] = ()
    """Contacts whose messages failed, at most `CIRCUIT_OPEN_AFTER` of them.

    Contacts are counted, not messages: one contact whose messages are rejected is no sign that the
    receiver is down.
    """
    unreached: int = 0
    """Consecutive attempts that reached no receiver."""
    probes: int = 0
    """Failed probes since the receiver is down."""
    failing_since: int | None = None
    pause_until: int = 0

    @property
    def is_down(self) -> bool:
        """Return whether the receiver is probed with one message at a time, with pauses between."""
        return len(self.failing) >= CIRCUIT_OPEN_AFTER or self.unreached >= CIRCUIT_OPEN_AFTER


class Subscription(msgspec.Struct, frozen=True):
    """A subscription with its position in the log; `number` is the key of its advisory lock."""

    number: int
    subscription_id: str
    workspace: WorkspaceId
    name: str
    url: str
    selection: MessageFilter
    secrets: tuple[SigningSecret, ...]
    status: SubscriptionStatus
    reason: str
    cursor: dict[int, int]
    health: ReceiverHealth


class DueMessage(msgspec.Struct, frozen=True):
    """A message to deliver, with its `attempts` so far and the `fault` of the last one.

    `waiting` is whether the message has a row in `subscription_waiting`.
    """

    log_position: LogPosition
    key: str
    attempts: int = 0
    first_failed_at: int | None = None
    due_at: int = 0
    fault: FaultKind = ""
    waiting: bool = False


class DeliveryAttempt(msgspec.Struct, frozen=True):
    """A delivery attempt with its answer."""

    due: DueMessage
    answer: WebhookAnswer
    order: int = 0
    """Rank of the answer within its delivery round, in order of arrival."""
    sent: bool = True
    """False if the message was erased and not sent; then it does not affect receiver health."""


class DeliveryVerdict(msgspec.Struct):
    """The outcome of a delivery round, to be stored."""

    delivered: list[DueMessage]
    failed: list[tuple[DueMessage, bool]]
    """(message with its next retry, whether it is given up)"""
    behind: list[DueMessage]
    """Messages that wait behind an earlier message about the same contact."""
    health: ReceiverHealth
    status: SubscriptionStatus
    reason: str


def plan_chains(
    waiting: Sequence[DueMessage], fresh: Sequence[DueMessage], blocked: AbstractSet[str], now: int
) -> tuple[list[list[DueMessage]], list[DueMessage]]:
    """Return the messages to send now, one chain per contact, and the fresh messages that wait.

    `waiting` and `fresh` are in the log's order, contact by contact; `blocked` are the keys with
    waiting messages, behind which fresh messages of the same key wait.
    """
    by_key: dict[str, list[DueMessage]] = {}
    for message in waiting:
        by_key.setdefault(message.key, []).append(message)
    chains = {key: messages for key, messages in by_key.items() if messages[0].due_at <= now}
    for message in fresh:
        if message.key not in blocked:
            chains.setdefault(message.key, []).append(message)
    return list(chains.values()), [message for message in fresh if message.key in blocked]


def evaluate_attempts(
    subscription: Subscription,
    attempts_by_key: Mapping[str, Sequence[DeliveryAttempt]],
    chains: Sequence[Sequence[DueMessage]],
    now: int,
    chance: Callable[[], float],
) -> DeliveryVerdict:
    """Return the verdict on a delivery round.

    `attempts_by_key` are each chain's attempts in order, up to its first failure; `chance` draws
    the jitter of the retries.
    """
    sent = sorted(
        (a for attempts in attempts_by_key.values() for a in attempts if a.sent),
        key=lambda attempt: attempt.order,
    )
    answers = [attempt.answer for attempt in sent]
    health = _update_health(subscription.health, sent, now)
    verdict = DeliveryVerdict([], [], [], health, subscription.status, subscription.reason)
    for chain in chains:
        attempts = attempts_by_key[chain[0].key]
        verdict.delivered += [a.due for a in attempts if a.answer.meaning == "delivered"]
        failed = [a for a in attempts if a.answer.meaning != "delivered"]
        verdict.failed += [_plan_retry(attempt, now, chance(), health) for attempt in failed]
        verdict.behind += [due for due in chain[len(attempts) :] if not due.waiting]
    if any(answer.meaning == "gone" for answer in answers):
        verdict.status, verdict.reason = "disabled", "the receiver answered 410 Gone"
    elif (
        health.is_down
        and health.failing_since is not None
        and now - health.failing_since >= DISABLED_AFTER
    ):
        verdict.status, verdict.reason = "disabled", "the receiver has taken nothing for 7 days"
    return verdict


def _update_health(
    before: ReceiverHealth, sent: Sequence[DeliveryAttempt], now: int
) -> ReceiverHealth:
    """Return the health after these attempts, in order of arrival; a delivery resets it."""
    pauses = [now + a.answer.pause for a in sent if a.answer.pause is not None]
    since_delivery = list(sent)
    for number, attempt in enumerate(sent):
        if attempt.answer.meaning == "delivered":
            before, since_delivery = ReceiverHealth(), list(sent[number + 1 :])
    if not since_delivery:
        return (
            msgspec.structs.replace(before, pause_until=max(pauses, default=0)) if sent else before
        )
    failing = tuple(dict.fromkeys((*before.failing, *(a.due.key for a in since_delivery))))[
        :CIRCUIT_OPEN_AFTER
    ]
    all_unreached = all(a.answer.fault == "unreached" for a in since_delivery)
    unreached = (
        min(before.unreached + len(since_delivery), CIRCUIT_OPEN_AFTER) if all_unreached else 0
    )
    since = now if before.failing_since is None else before.failing_since
    after = ReceiverHealth(failing, unreached, before.probes + 1 if before.is_down else 0, since)
    if after.is_down:
        pauses.append(now + min(_LONGEST_PAUSE, _FIRST_PAUSE << min(after.probes, 10)))
    return msgspec.structs.replace(after, pause_until=max(pauses, default=0))


def _plan_retry(
    failed: DeliveryAttempt, now: int, chance: float, health: ReceiverHealth
) -> tuple[DueMessage, bool]:
    """Return the message with its next retry, and whether it is given up."""
    due = failed.due
    attempts = due.attempts + 1
    first_failed_at = now if due.first_failed_at is None else due.first_failed_at
    exhausted = attempts > len(RETRY_DELAYS) and now - first_failed_at >= MAX_AGE
    retry = msgspec.structs.replace(
        due,
        attempts=attempts,
        first_failed_at=first_failed_at,
        due_at=now + retry_delay(attempts, chance),
        fault=failed.answer.fault,
    )
    return retry, exhausted and not health.is_down
