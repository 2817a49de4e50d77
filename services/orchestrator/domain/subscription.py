"""A webhook subscription: what goes out next, in which order, and what follows from the answers. Nothing here waits or sends.

Two things are kept apart. A *message* that a receiver does not take waits, and with it what comes later about the same contact;
others go on. A *receiver* that takes nothing any more is asked with one message at a time, and nothing is given up meanwhile:
its place in the log stays where it is.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Literal

import msgspec

from libs.common.durations import duration
from libs.common.messages.selection import Selection
from services.orchestrator.domain.webhook import GIVES_UP, WAITS, Answer, Secret, wait_after

Status = Literal["active", "paused", "disabled"]
Place = tuple[int, int]
"""(shard, position)"""
OPEN_AFTER = 5
"""After so many failures in a row a receiver is taken to be down."""
_FIRST_PAUSE = duration("5s")
_LONGEST_PAUSE = duration("5m")
DISABLED_AFTER = duration("7d")


class Health(msgspec.Struct, frozen=True):
    """How a receiver does: failures in a row since when, and until when it is left alone (microseconds UTC)."""

    failures: int = 0
    failing_since: int | None = None
    pause_until: int = 0

    @property
    def down(self) -> bool:
        """Return whether it is asked with one message at a time."""
        return self.failures >= OPEN_AFTER


class Subscription(msgspec.Struct, frozen=True):
    """Where messages go, which, and how far they have gone. `number` is its lock's."""

    number: int
    subscription_id: str
    workspace: str
    name: str
    url: str
    selection: Selection
    secrets: tuple[Secret, ...]
    status: Status
    reason: str
    place: dict[int, int]
    health: Health


class Due(msgspec.Struct, frozen=True):
    """A message on its way; `attempts` failed before this one, `waiting` says that it has a row of its own."""

    place: Place
    key: str
    attempts: int = 0
    first_failed_at: int | None = None
    due_at: int = 0
    waiting: bool = False


class Tried(msgspec.Struct, frozen=True):
    """An attempt and what came of it."""

    due: Due
    answer: Answer


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
    chance: float,
) -> Verdict:
    """Return what follows from a turn: `tried` by key, each in order up to its first failure; `sent` are the chains.

    `chance` in [0, 1) spreads the retries.
    """
    answers = [one.answer for found in tried.values() for one in found]
    health = _health(subscription.health, answers, now)
    verdict = Verdict([], [], [], health, subscription.status, subscription.reason)
    for chain in sent:
        found = tried[chain[0].key]
        verdict.delivered += [one.due for one in found if one.answer.meaning == "delivered"]
        failed = [one for one in found if one.answer.meaning != "delivered"]
        verdict.failed += [_waits(one.due, now, chance, health) for one in failed]
        verdict.behind += [due for due in chain[len(found) :] if not due.waiting]
    if any(answer.meaning == "gone" for answer in answers):
        verdict.status, verdict.reason = "disabled", "the receiver answered 410 Gone"
    elif health.failing_since is not None and now - health.failing_since >= DISABLED_AFTER:
        verdict.status, verdict.reason = "disabled", "the receiver has taken nothing for 7 days"
    return verdict


def _health(before: Health, answers: Sequence[Answer], now: int) -> Health:
    if not answers:
        return before
    pauses = [now + answer.pause for answer in answers if answer.pause is not None]
    if any(answer.meaning == "delivered" for answer in answers):
        return Health(pause_until=max(pauses, default=0))
    # Many that fail together say no more than a few: a receiver that was away for a moment is asked again in a moment.
    failures = before.failures + 1 if before.down else min(before.failures + len(answers), OPEN_AFTER)
    if failures >= OPEN_AFTER:
        pauses.append(now + min(_LONGEST_PAUSE, _FIRST_PAUSE << min(failures - OPEN_AFTER, 10)))
    since = now if before.failing_since is None else before.failing_since
    return Health(failures, since, max(pauses, default=0))


def _waits(due: Due, now: int, chance: float, health: Health) -> tuple[Due, bool]:
    attempts = due.attempts + 1
    first = now if due.first_failed_at is None else due.first_failed_at
    over = attempts > len(WAITS) and now - first >= GIVES_UP and not health.down
    later = now + wait_after(attempts, chance)
    return msgspec.structs.replace(due, attempts=attempts, first_failed_at=first, due_at=later), over
