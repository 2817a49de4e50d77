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
from services.orchestrator.domain.webhook import GIVES_UP, WAITS, Answer, Fault, Secret, wait_after

Status = Literal["active", "paused", "disabled"]
Place = tuple[int, int]
"""(shard, position)"""
OPEN_AFTER = 5
"""When messages about so many contacts failed, or nobody was there so often, and none went through since, it is down."""
_FIRST_PAUSE = parse_duration("5s")
_LONGEST_PAUSE = parse_duration("1m")
DISABLED_AFTER = parse_duration("7d")


class Health(msgspec.Struct, frozen=True):
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
    def down(self) -> bool:
        """Return whether it is asked with one message at a time, and left alone in between."""
        return len(self.failing) >= OPEN_AFTER or self.unreached >= OPEN_AFTER


class Subscription(msgspec.Struct, frozen=True):
    """Where messages go, which, and how far they have gone. `number` is its lock's."""

    number: int
    subscription_id: str
    workspace: str
    name: str
    url: str
    selection: MessageFilter
    secrets: tuple[Secret, ...]
    status: Status
    reason: str
    place: dict[int, int]
    health: Health


class Due(msgspec.Struct, frozen=True):
    """A message on its way; `attempts` failed before this one, `waiting` says that it has a row of its own.

    `fault` says what its last failure was about.
    """

    place: Place
    key: str
    attempts: int = 0
    first_failed_at: int | None = None
    due_at: int = 0
    fault: Fault = ""
    waiting: bool = False


class Tried(msgspec.Struct, frozen=True):
    """An attempt and what came of it."""

    due: Due
    answer: Answer
    order: int = 0
    """When the answer came, among those of a turn."""
    sent: bool = True
    """Not, if there was nothing left to send: that says nothing of the receiver."""


class Verdict(msgspec.Struct):
    """What is written down after a turn."""

    delivered: list[Due]
    failed: list[tuple[Due, bool]]
    """As they wait from now on, and whether they are given up."""
    behind: list[Due]
    """What waits because something before it does."""
    health: Health
    status: Status
    reason: str


def chains(
    waiting: Sequence[Due], fresh: Sequence[Due], blocked: AbstractSet[str], now: int
) -> tuple[list[list[Due]], list[Due]]:
    """Return what may go out now, one list for each contact in its order, and what has to wait behind something.

    `waiting` and `fresh` are in the log's order, contact by contact; `blocked` are those about whom something waits.
    """
    by_key: dict[str, list[Due]] = {}
    for one in waiting:
        by_key.setdefault(one.key, []).append(one)
    going = {key: found for key, found in by_key.items() if found[0].due_at <= now}
    for one in fresh:
        if one.key not in blocked:
            going.setdefault(one.key, []).append(one)
    return list(going.values()), [one for one in fresh if one.key in blocked]


def judge(
    subscription: Subscription,
    tried: Mapping[str, Sequence[Tried]],
    sent: Sequence[Sequence[Due]],
    now: int,
    chance: Callable[[], float],
) -> Verdict:
    """Return what follows from a turn: `tried` by key, each in order up to its first failure; `sent` are the chains.

    `chance` draws numbers in [0, 1), which spread the retries.
    """
    made = sorted((one for found in tried.values() for one in found if one.sent), key=lambda one: one.order)
    answers = [one.answer for one in made]
    health = _health(subscription.health, made, now)
    verdict = Verdict([], [], [], health, subscription.status, subscription.reason)
    for chain in sent:
        found = tried[chain[0].key]
        verdict.delivered += [one.due for one in found if one.answer.meaning == "delivered"]
        failed = [one for one in found if one.answer.meaning != "delivered"]
        verdict.failed += [_waits(one, now, chance(), health) for one in failed]
        verdict.behind += [due for due in chain[len(found) :] if not due.waiting]
    if any(answer.meaning == "gone" for answer in answers):
        verdict.status, verdict.reason = "disabled", "the receiver answered 410 Gone"
    elif health.down and health.failing_since is not None and now - health.failing_since >= DISABLED_AFTER:
        verdict.status, verdict.reason = "disabled", "the receiver has taken nothing for 7 days"
    return verdict


def _health(before: Health, sent: Sequence[Tried], now: int) -> Health:
    """Return how it does after these answers, in the order in which they came: what counts is what came since a delivery."""
    pauses = [now + one.answer.pause for one in sent if one.answer.pause is not None]
    since_delivery = list(sent)
    for number, one in enumerate(sent):
        if one.answer.meaning == "delivered":
            before, since_delivery = Health(), list(sent[number + 1 :])
    if not since_delivery:
        return msgspec.structs.replace(before, pause_until=max(pauses, default=0)) if sent else before
    failing = tuple(dict.fromkeys((*before.failing, *(one.due.key for one in since_delivery))))[:OPEN_AFTER]
    nobody = all(one.answer.fault == "unreached" for one in since_delivery)
    unreached = min(before.unreached + len(since_delivery), OPEN_AFTER) if nobody else 0
    since = now if before.failing_since is None else before.failing_since
    found = Health(failing, unreached, before.probes + 1 if before.down else 0, since)
    if found.down:
        pauses.append(now + min(_LONGEST_PAUSE, _FIRST_PAUSE << min(found.probes, 10)))
    return msgspec.structs.replace(found, pause_until=max(pauses, default=0))


def _waits(tried: Tried, now: int, chance: float, health: Health) -> tuple[Due, bool]:
    due = tried.due
    attempts = due.attempts + 1
    first = now if due.first_failed_at is None else due.first_failed_at
    over = attempts > len(WAITS) and now - first >= GIVES_UP and not health.down
    later = now + wait_after(attempts, chance)
    waits = msgspec.structs.replace(
        due, attempts=attempts, first_failed_at=first, due_at=later, fault=tried.answer.fault
    )
    return waits, over
