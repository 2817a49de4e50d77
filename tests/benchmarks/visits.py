"""Visits of a website: the load that scoring really gets; used by the growth benchmark.

A visit has 5 to 10 touchpoints, 5 s and more apart, 40 s on average. 70 % of the visits are by
contacts that exist (chosen by Zipf's law, exponent 0.8): half of these contacts have a device that
they claim, and 60 % of the visits from such a device carry the user id too; the others are known by
their user id alone. 30 % of the visits come from a new device; in a third of those the visitor
identifies during the visit, and a fifth of these name a contact that exists, so that two contacts
merge. 5 % of the touchpoints arrive late, by 10 minutes on average.
"""

import bisect
import itertools
import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

from libs.common.api_keys import DEFAULT_WORKSPACE
from libs.common.instants import MINUTE, SECOND
from libs.common.messages import Touchpoint
from libs.common.messages.touchpoint import CallType

FIRST_VISIT_AT = 1_780_000_000_000_000
PER_SECOND = 500
"""Touchpoints a second of stream time."""
_STEPS = (5, 10)
_LEAD = 30 * MINUTE
"""Visits that began as long before the first instant reach into the stream, or arrive late."""
_EVENTS: tuple[tuple[CallType, str], ...] = (
    ("page", ""), ("track", "Product List Viewed"), ("track", "Product Viewed"),
    ("track", "Products Searched"), ("track", "Product Added"), ("track", "Cart Viewed"),
    ("page", "Pricing"), ("track", "Order Completed"),
)  # fmt: skip
_WEIGHTS = (30, 20, 30, 6, 7, 4, 2, 1)


class Visitor(NamedTuple):
    """Identifiers of a visit, and the user id that an identify call names during it, if any."""

    device: str | None
    user: str | None
    identifies_as: str | None = None


class _Step(NamedTuple):
    arrives_at: int
    occurred_at: int
    visit: int
    number: int
    type: CallType
    name: str
    visitor: Visitor


def user_id(number: int) -> str:
    """Return the user id of an existing contact."""
    return f"user-{number:06d}"


def device_of(number: int) -> str | None:
    """Return the device of an existing contact: every other one has one."""
    return f"device-{number:07d}" if number % 2 == 0 else None


def visits(count: int, contacts: int, seed: int = 3) -> list[Touchpoint]:
    """Return `count` touchpoints of visits in order of arrival, about 430 bytes each."""
    chance = random.Random(seed)
    steps = sorted(_steps(count, contacts, chance, seed))
    return [_touchpoint(step, chance, seed) for step in steps[:count]]


def _steps(count: int, contacts: int, chance: random.Random, seed: int) -> Iterator[_Step]:
    popularity = list(itertools.accumulate((rank + 1) ** -0.8 for rank in range(contacts)))
    ranked = list(range(contacts))
    chance.shuffle(ranked)

    def choose_contact() -> int:
        position = bisect.bisect(popularity, chance.random() * popularity[-1])
        return ranked[min(contacts - 1, position)]

    span = count * SECOND // PER_SECOND
    per_visit = sum(_STEPS) / 2
    for visit in range(int((span + _LEAD) / SECOND * PER_SECOND / per_visit * 1.1)):
        visitor = _choose_visitor(choose_contact, chance, f"{seed}-{visit:07d}")
        at = FIRST_VISIT_AT - _LEAD + int(chance.random() * (span + _LEAD))
        number_of_steps = chance.randint(*_STEPS)
        identify_at = chance.randrange(1, number_of_steps) if visitor.identifies_as else -1
        for number in range(number_of_steps):
            call_type, name = chance.choices(_EVENTS, weights=_WEIGHTS)[0]
            if number == identify_at:
                call_type, name = "identify", ""
                visitor = visitor._replace(user=visitor.identifies_as)
            late = int(chance.expovariate(1 / (10 * MINUTE))) if chance.random() < 0.05 else 0
            if at + late >= FIRST_VISIT_AT:
                yield _Step(at + late, at, visit, number, call_type, name, visitor)
            at += 5 * SECOND + int(chance.expovariate(1 / (35 * SECOND)))


def _choose_visitor(
    choose_contact: Callable[[], int], chance: random.Random, suffix: str
) -> Visitor:
    if chance.random() < 0.3:
        identifies_as = None
        if chance.random() < 1 / 3:
            is_known = chance.random() < 0.2
            identifies_as = user_id(choose_contact()) if is_known else f"fresh-{suffix}"
        return Visitor(f"new-{suffix}", None, identifies_as)
    number = choose_contact()
    device = device_of(number)
    sends_user_id = device is None or chance.random() < 0.6
    return Visitor(device, user_id(number) if sends_user_id else None)


def _touchpoint(step: _Step, chance: random.Random, seed: int) -> Touchpoint:
    user = step.visitor.user
    return Touchpoint(
        workspace=DEFAULT_WORKSPACE, source="bench",
        message_id=f"{seed}-{step.visit:07d}-{step.number:02d}-8f1e4a7c-bench",
        type=step.type, name=step.name, occurred_at=step.occurred_at,
        received_at=step.arrives_at + 20_000, user_id=user, anonymous_id=step.visitor.device,
        channel="web", campaign={"source": "newsletter", "medium": "email"},
        traits={"email": f"{user}@example.org"} if step.type == "identify" else {},
        properties={
            "product_id": f"p-{chance.randrange(500)}", "price": 19.9, "position": step.number,
        },
        context={
            "locale": "en-GB",
            "page": {"path": "/products/lamp", "referrer": "https://search.example"},
        },
    )  # fmt: skip
