"""A webhook subscription: what goes out next, in which order, and what follows from the answers. Nothing here waits or sends.

Two things are kept apart. A *message* that a receiver does not take waits, and with it what comes later about the same contact;
others go on. A *receiver* that takes nothing any more is asked with one message at a time, and nothing is given up meanwhile:
its place in the log stays where it is.
"""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Literal

import msgspec

from libs.common.durations import parse_duration
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
Place = tuple[int, int]
"""(shard, position)"""
CIRCUIT_OPEN_AFTER = 5
"""When messages about so many contacts failed, or nobody was there so often, and none went through since, it is down."""
_FIRST_PAUSE = parse_duration("5s")
_LONGEST_PAUSE = parse_duration("1m")
DISABLED_AFTER = parse_duration("7d")


class ReceiverHealth(msgspec.Struct, frozen=True):
    """How a receiver does since it last took something: about whom messages failed, since when; instants in µs UTC."""

    failing: tuple[str, ...] = ()
    """Contacts about whom messages failed, at most OPEN_AFTER of them: one whose messages it rejects says nothing of it."""
    unreached: int = 0
    """How often in a row nobody was there."""
    probes: int = 0
    """How often it was asked in vain since it is taken to be down."""
    failing_since: int | None = None
    pause_until: int = 0

    @property
    def is_down(self) -> bool:
        """Return whether it is asked with one message at a time, and left alone in between."""
        return len(self.failing) >= CIRCUIT_OPEN_AFTER or self.unreached >= CIRCUIT_OPEN_AFTER


class Subscription(msgspec.Struct, frozen=True):
    """Where messages go, which, and how far they have gone. `number` is its lock's."""

    number: int
    subscription_id: str
    workspace: str
    name: str
    url: str
    selection: MessageFilter
    secrets: tuple[SigningSecret, ...]
    status: SubscriptionStatus
    reason: str
    place: dict[int, int]
    health: ReceiverHealth


class DueMessage(msgspec.Struct, frozen=True):
    """A message on its way; `attempts` failed before this one, `waiting` says that it has a row of its own.

    `fault` says what its last failure was about.
    """

    place: Place
    key: str
    attempts: int = 0
    first_failed_at: int | None = None
    due_at: int = 0
    fault: FaultKind = ""
    waiting: bool = False


class DeliveryAttempt(msgspec.Struct, frozen=True):
    """An attempt and what came of it."""

    due: DueMessage
    answer: WebhookAnswer
    order: int = 0
    """When the answer came, among those of a turn."""
    sent: bool = True
    """Not, if there was nothing left to send: that says nothing of the receiver."""


class DeliveryVerdict(msgspec.Struct):
    """What is written down after a turn."""

    delivered: list[DueMessage]
    failed: list[tuple[DueMessage, bool]]
    """As they wait from now on, and whether they are given up."""
    behind: list[DueMessage]
    """What waits because something before it does."""
    health: ReceiverHealth
    status: SubscriptionStatus
    reason: str


def plan_chains(
    waiting: Sequence[DueMessage], fresh: Sequence[DueMessage], blocked: AbstractSet[str], now: int
) -> tuple[list[list[DueMessage]], list[DueMessage]]:
    """Return what may go out now, one list for each contact in its order, and what has to wait behind something.

    `waiting` and `fresh` are in the log's order, contact by contact; `blocked` are those about whom something waits.
    """
    by_key: dict[str, list[DueMessage]] = {}
    for one in waiting:
        by_key.setdefault(one.key, []).append(one)
    going = {key: found for key, found in by_key.items() if found[0].due_at <= now}
    for one in fresh:
        if one.key not in blocked:
            going.setdefault(one.key, []).append(one)
    return list(going.values()), [one for one in fresh if one.key in blocked]


def evaluate_attempts(
    subscription: Subscription,
    tried: Mapping[str, Sequence[DeliveryAttempt]],
    sent: Sequence[Sequence[DueMessage]],
    now: int,
    chance: Callable[[], float],
) -> DeliveryVerdict:
    """Return what follows from a turn: `tried` by key, each in order up to its first failure; `sent` are the chains.

    `chance` draws numbers in [0, 1), which spread the retries.
    """
    made = sorted(
        (one for found in tried.values() for one in found if one.sent), key=lambda one: one.order
    )
    answers = [one.answer for one in made]
    health = _health(subscription.health, made, now)
    verdict = DeliveryVerdict([], [], [], health, subscription.status, subscription.reason)
    for chain in sent:
        found = tried[chain[0].key]
        verdict.delivered += [one.due for one in found if one.answer.meaning == "delivered"]
        failed = [one for one in found if one.answer.meaning != "delivered"]
        verdict.failed += [_waits(one, now, chance(), health) for one in failed]
        verdict.behind += [due for due in chain[len(found) :] if not due.waiting]
    if any(answer.meaning == "gone" for answer in answers):
        verdict.status, verdict.reason = "disabled", "the receiver answered 410 Gone"
    elif (
        health.is_down
        and health.failing_since is not None
        and now - health.failing_since >= DISABLED_AFTER
    ):
        verdict.status, verdict.reason = "disabled", "the receiver has taken nothing for 7 days"
    return verdict


def _health(before: ReceiverHealth, sent: Sequence[DeliveryAttempt], now: int) -> ReceiverHealth:
    """Return how it does after these answers, in the order in which they came: what counts is what came since a delivery."""
    pauses = [now + one.answer.pause for one in sent if one.answer.pause is not None]
    since_delivery = list(sent)
    for number, one in enumerate(sent):
        if one.answer.meaning == "delivered":
            before, since_delivery = ReceiverHealth(), list(sent[number + 1 :])
    if not since_delivery:
        return (
            msgspec.structs.replace(before, pause_until=max(pauses, default=0)) if sent else before
        )
    failing = tuple(dict.fromkeys((*before.failing, *(one.due.key for one in since_delivery))))[
        :CIRCUIT_OPEN_AFTER
    ]
    nobody = all(one.answer.fault == "unreached" for one in since_delivery)
    unreached = min(before.unreached + len(since_delivery), CIRCUIT_OPEN_AFTER) if nobody else 0
    since = now if before.failing_since is None else before.failing_since
    found = ReceiverHealth(failing, unreached, before.probes + 1 if before.is_down else 0, since)
    if found.is_down:
        pauses.append(now + min(_LONGEST_PAUSE, _FIRST_PAUSE << min(found.probes, 10)))
    return msgspec.structs.replace(found, pause_until=max(pauses, default=0))


def _waits(
    tried: DeliveryAttempt, now: int, chance: float, health: ReceiverHealth
) -> tuple[DueMessage, bool]:
    due = tried.due
    attempts = due.attempts + 1
    first = now if due.first_failed_at is None else due.first_failed_at
    over = attempts > len(RETRY_DELAYS) and now - first >= MAX_AGE and not health.is_down
    later = now + retry_delay(attempts, chance)
    waits = msgspec.structs.replace(
        due, attempts=attempts, first_failed_at=first, due_at=later, fault=tried.answer.fault
    )
    return waits, over
