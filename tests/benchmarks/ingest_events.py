"""Events of the ingest benchmark in the form of server and browser libraries; seeded."""

import random
import uuid
from collections.abc import Sequence
from enum import Enum
from itertools import accumulate
from typing import Any, TypeVar

T = TypeVar("T")


class InputKind(Enum):
    """Kinds of input; websites are the headline."""

    SERVERS = "servers"
    """12 contexts."""
    WEBSITES = "websites"
    """20,000 contexts: 250 pages, 16 user agents and 5 referrers, each drawn by Zipf's law."""
    NEW = "each context new"
    """Websites' contexts with a click id of their own in the page's address."""


PAGES = range(250)
USER_AGENTS = [
    f"Mozilla/5.0 ({system}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{version}.0.0.0 {form}"
    for version in range(141, 133, -1)
    for system, form in (
        ("Windows NT 10.0; Win64; x64", "Safari/537.36"),
        ("Linux; Android 10; K", "Mobile Safari/537.36"),
    )
]
REFERRERS = (
    "https://shop.test/",
    "https://www.google.com/",
    "",
    "https://www.facebook.com/",
    "https://magazine.test/shoes",
)
_CAMPAIGN_QUERY = "?utm_source=newsletter&utm_medium=email&utm_campaign=spring"
_CAMPAIGN = {"name": "spring", "source": "newsletter", "medium": "email"}


class EventGenerator:
    """Endless events of `contacts`; two generators of one seed give the same."""

    def __init__(self, contacts: int, seed: int) -> None:
        self._contacts = contacts
        self._random = random.Random(seed)
        self._count = 0

    def event(self, kind: InputKind) -> dict[str, Any]:
        """Return the next event, 400 (servers) to 900 bytes as JSON."""
        number = self._count
        self._count += 1
        contact = number * 7_919 % self._contacts
        second, millisecond = number // 1_000 % 3_600, number % 1_000
        return {
            "timestamp": f"2026-05-28T19:{second // 60:02d}:{second % 60:02d}.{millisecond:03d}Z",
            "type": "track",
            "event": "Product Viewed",
            "messageId": f"ajs-next-{1_780_000_000_000 + number}-{self._uuid()}",
            "userId": f"user-{contact:06d}",
            "anonymousId": f"device-{contact:06d}",
            "properties": {"product_id": f"p-{number % 300}", "price": 19.9, "category": "shoes"},
            "context": self._server_context() if kind is InputKind.SERVERS else self._page(kind),
        }

    def _server_context(self) -> dict[str, Any]:
        version = self._random.randrange(12)
        return {
            "library": {"name": "analytics-python", "version": "2.3.4"},
            "app": {"name": "shop", "version": f"4.1.{version}"},
        }

    def _page(self, kind: InputKind) -> dict[str, Any]:
        page = self._zipf(PAGES)
        campaign = page % 10 == 3  # a tenth of the pages are landing pages of a newsletter
        search = _CAMPAIGN_QUERY if campaign else ""
        if kind is InputKind.NEW:
            search += f"{'&' if campaign else '?'}gclid={self._uuid()}"
        return {
            "page": {
                "path": f"/products/{page}",
                "referrer": self._zipf(REFERRERS),
                "search": search,
                "title": f"Shoe no. {page} | Shop",
                "url": f"https://shop.test/products/{page}{search}",
            },
            "userAgent": self._zipf(USER_AGENTS),
            "locale": "en-GB",
            "library": {"name": "analytics.js", "version": "npm:next-1.84.3"},
            "timezone": "Europe/London",
            **({"campaign": _CAMPAIGN} if campaign else {}),
        }

    def _zipf(self, values: Sequence[T]) -> T:
        """Return the value of rank k with a probability in proportion to 1/k."""
        weights = list(accumulate(1 / rank for rank in range(1, len(values) + 1)))
        return self._random.choices(values, cum_weights=weights)[0]

    def _uuid(self) -> uuid.UUID:
        return uuid.UUID(int=self._random.getrandbits(128), version=4)
