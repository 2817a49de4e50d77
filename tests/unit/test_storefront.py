"""The storefront's mapping: the counts that the demo promises, and the shape of its calls."""

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
def found():
    return list(calls(ANCHOR))


def test_the_counts(found):
    kinds = Counter(call["type"] for call in found)
    subscribed = [call for call in found if call.get("event") == "Newsletter Subscribed"]
    assert len(found) == 31_106 + 518 + 230
    assert kinds["identify"] == 518
    assert len(subscribed) == 230
    assert sum("mode" not in call["context"] for call in subscribed) == 61
    assert len({call["messageId"] for call in found}) == len(found)


def test_people_and_devices(found):
    devices = {call["anonymousId"] for call in found}
    identified = {call["anonymousId"] for call in found if call.get("userId")}
    users = {call["userId"] for call in found if call.get("userId")}
    assert (len(devices), len(users), len(devices - identified)) == (796, 475, 278)


def test_times_go_up_to_the_anchor_and_only_the_last_month_is_live(found):
    times = [datetime.fromisoformat(call["timestamp"]) for call in found]
    assert times == sorted(times)
    assert times[-1] == ANCHOR
    for call, at in zip(found, times, strict=True):
        assert ("mode" in call["context"]) == (at < ANCHOR - timedelta(days=30))
    assert not any("sentAt" in call for call in found)


def test_an_identify_goes_before_its_row_and_both_ids_from_then_on(found):
    known = set()
    for call in found:
        if call["type"] == "identify":
            assert call["messageId"].endswith("-identify")
            assert call["traits"]["email"] == f"{call['userId']}@example.test"
            assert call["context"]["consent"] == {"categoryPreferences": {"marketing": True}}
            known.add(call["anonymousId"])
        assert ("userId" in call) == (call["anonymousId"] in known)


def test_every_kind_of_row_is_mapped_and_accepted(found):
    assert len(PAGES) + len(EVENTS) == 19
    source = Source("default", "storefront")
    seen = set()
    for call in found[::37]:
        touchpoint = touchpoint_of_call(
            call_from_object(call), RequestContext(source, 1_795_000_000_000_000, lambda: "made-up")
        )
        assert isinstance(touchpoint, Touchpoint)
        assert touchpoint.message_id == call["messageId"]
        seen.add(touchpoint.type)
    assert seen == {"track", "page", "identify"}


def test_orders_have_a_value(found):
    orders = [call for call in found if call.get("event") == "Order Completed"]
    assert len(orders) == 470
    assert all(
        order["properties"]["total"] > 0 and order["properties"]["currency"] == "EUR"
        for order in orders
    )


def test_the_data_is_there_with_its_credit():
    readme = FILE.with_name("README.md").read_text()
    assert "retentioneering" in readme
    assert "Apache-2.0" in readme
