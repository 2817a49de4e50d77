"""Mapping of the storefront data: the counts that the demo documents, and the form of its calls."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from examples.storefront.mapping import EVENTS, FILE, PAGES, calls
from libs.common.messages import Touchpoint
from services.ingest.domain.request_context import RequestContext
from services.ingest.domain.source import Source
from services.ingest.domain.tracking_call import call_from_object
from tests.support.encoding_paths import touchpoint_of_call

ANCHOR = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def storefront_calls():
    return list(calls(ANCHOR))


def test_dataset_has_documented_counts(storefront_calls):
    kinds = Counter(call["type"] for call in storefront_calls)

    subscribed = [call for call in storefront_calls if call.get("event") == "Newsletter Subscribed"]

    assert len(storefront_calls) == 31_106 + 518 + 230
    assert kinds["identify"] == 518
    assert len(subscribed) == 230
    assert sum("mode" not in call["context"] for call in subscribed) == 61
    assert len({call["messageId"] for call in storefront_calls}) == len(storefront_calls)


def test_dataset_has_documented_users_and_devices(storefront_calls):
    devices = {call["anonymousId"] for call in storefront_calls}
    identified = {call["anonymousId"] for call in storefront_calls if call.get("userId")}

    users = {call["userId"] for call in storefront_calls if call.get("userId")}

    assert (len(devices), len(users), len(devices - identified)) == (796, 475, 278)


def test_times_end_at_anchor_with_live_last_month(storefront_calls):
    times = [datetime.fromisoformat(call["timestamp"]) for call in storefront_calls]

    assert times == sorted(times)
    assert times[-1] == ANCHOR
    for call, at in zip(storefront_calls, times, strict=True):
        assert ("mode" in call["context"]) == (at < ANCHOR - timedelta(days=30))
    assert not any("sentAt" in call for call in storefront_calls)


def test_identify_precedes_row_and_user_id_follows(storefront_calls):
    identified = set()

    for call in storefront_calls:
        if call["type"] == "identify":
            assert call["messageId"].endswith("-identify")
            assert call["traits"]["email"] == f"{call['userId']}@example.test"
            assert call["context"]["consent"] == {"categoryPreferences": {"marketing": True}}
            identified.add(call["anonymousId"])
        assert ("userId" in call) == (call["anonymousId"] in identified)


def test_every_row_kind_maps_to_a_touchpoint(storefront_calls):
    assert len(PAGES) + len(EVENTS) == 19

    source = Source("default", "storefront")
    types = set()

    for call in storefront_calls[::37]:
        touchpoint = touchpoint_of_call(
            call_from_object(call),
            RequestContext(source, 1_795_000_000_000_000, lambda: "generated"),
        )
        assert isinstance(touchpoint, Touchpoint)
        assert touchpoint.message_id == call["messageId"]
        types.add(touchpoint.type)
    assert types == {"track", "page", "identify"}


def test_orders_have_total_and_currency(storefront_calls):
    orders = [call for call in storefront_calls if call.get("event") == "Order Completed"]

    assert len(orders) == 470
    assert all(
        order["properties"]["total"] > 0 and order["properties"]["currency"] == "EUR"
        for order in orders
    )


def test_readme_names_source_and_licence():
    readme = FILE.with_name("README.md").read_text()

    assert "retentioneering" in readme
    assert "Apache-2.0" in readme
