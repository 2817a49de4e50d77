"""Tracking calls from the storefront's rows."""

import csv
import gzip
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("storefront.csv.gz")
LIVE = timedelta(days=30)

PAGES = {
    "home": "Home",
    "promo_page": "Promotion",
    "account_page": "Account",
    "review_page": "Reviews",
    "error_page": "Error",
}
EVENTS = {
    "catalog": "Product List Viewed",
    "search": "Products Searched",
    "filter_results": "Product List Filtered",
    "product_view": "Product Viewed",
    "compare": "Products Compared",
    "wishlist_add": "Product Added to Wishlist",
    "add_to_cart": "Product Added",
    "cart": "Cart Viewed",
    "shipping_details": "Checkout Step Viewed",
    "payment_details": "Payment Info Entered",
    "payment_error": "Payment Failed",
    "checkout_bug": "Checkout Failed",
    "purchase": "Order Completed",
    "support_chat": "Support Chat Started",
}
CAMPAIGNS = {
    "organic": {"source": "search", "medium": "organic"},
    "paid_search": {"source": "search", "medium": "cpc", "name": "always-on"},
    "email": {"source": "newsletter", "medium": "email", "name": "weekly"},
    "social": {"source": "social", "medium": "social"},
    "direct": {},
}

Call = dict[str, Any]


def calls(anchor: datetime) -> Iterator[Call]:
    """Yield every call in time order, shifted so that the last row happens at `anchor`."""
    rows = _rows()
    shift = anchor - rows[-1][0]
    identified: set[tuple[str, str]] = set()
    subscribed: set[str] = set()
    for at, number, row in rows:
        device = (row["user_id"], row["platform"])
        base = _base(row, at + shift, historical=at + shift < anchor - LIVE)
        message_id = f"storefront-{number:05d}"
        if row["event"] in ("account_page", "purchase") and device not in identified:
            identified.add(device)
            yield _identify(row, base, message_id)
        if device in identified:
            base["userId"] = row["user_id"]
        yield {**base, "messageId": message_id, **_act(row, number)}
        if (
            row["event"] == "wishlist_add"
            and device in identified
            and row["user_id"] not in subscribed
        ):
            subscribed.add(row["user_id"])
            yield {
                **base,
                "messageId": f"{message_id}-subscribed",
                "type": "track",
                "event": "Newsletter Subscribed",
            }


def _rows() -> list[tuple[datetime, int, dict[str, str]]]:
    with gzip.open(FILE, "rt", encoding="utf-8", newline="") as file:
        rows = [
            (datetime.fromisoformat(row["timestamp"]).replace(tzinfo=UTC), number, row)
            for number, row in enumerate(csv.DictReader(file), start=1)
        ]
    return sorted(rows, key=lambda row: row[:2])


def _base(row: dict[str, str], at: datetime, *, historical: bool) -> Call:
    context: dict[str, Any] = {"device": {"type": row["platform"]}, "locale": "en-GB"}
    campaign = CAMPAIGNS[row["acquisition_channel"]]
    if campaign:
        context["campaign"] = campaign
    if historical:
        context["mode"] = "historical"
    person = row["user_id"].removeprefix("user_")
    return {
        "anonymousId": f"device-{person}-{row['platform']}",
        "timestamp": at.isoformat(),
        "context": context,
    }


def _identify(row: dict[str, str], base: Call, message_id: str) -> Call:
    consent = {"consent": {"categoryPreferences": {"marketing": True}}}
    return {
        **base,
        "type": "identify",
        "messageId": f"{message_id}-identify",
        "userId": row["user_id"],
        "traits": {"email": f"{row['user_id']}@example.test"},
        "context": {**base["context"], **consent},
    }


def _act(row: dict[str, str], number: int) -> Call:
    if row["event"] in PAGES:
        return {
            "type": "page",
            "name": PAGES[row["event"]],
            "properties": {"path": f"/{row['event']}"},
        }
    properties: dict[str, Any] = {"session_id": row["session_id"]}
    if row["event"] == "purchase":
        # The file has no amounts: 20 to 519 euros by row number, the same in each run.
        properties |= {
            "order_id": f"order-{number:05d}",
            "total": 20 + number * 37 % 500,
            "currency": "EUR",
        }
    return {"type": "track", "event": EVENTS[row["event"]], "properties": properties}
