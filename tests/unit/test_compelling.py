"""Compelling events: each threshold once, whenever somebody looks; the date ends it. No clock, no database."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from libs.common.messages import CompellingEvent, decode_value
from services.scoring.domain.compelling_event import (
    DAY,
    TrackedEvent,
    announce_due,
    change_event,
    next_due_at,
    raise_event,
    sort_thresholds,
    withdraw_event,
)

NOW = 1_780_000_000_000_000


def event(**fields):
    return TrackedEvent("e", "default", "contract_ends", "contact", "c", **fields)


def told(messages):
    return [decode_value(CompellingEvent, message.value) for message in messages]


def test_a_date_is_told_at_each_threshold_once_and_ends_it():
    found, messages = raise_event(event(date=NOW + 40 * DAY), NOW)
    assert [one.status for one in told(messages)] == ["raised"]
    seen = []
    for day in range(42):
        found, messages = announce_due(found, NOW + day * DAY)
        seen += [(day, one.status, one.left) for one in told(messages)]
    assert seen == [
        (10, "nearing", 30 * DAY),
        (33, "nearing", 7 * DAY),
        (39, "nearing", DAY),
        (40, "expired", None),
    ]
    assert (found.standing, next_due_at(found)) == ("expired", None)
    assert found.version == 5


def test_thresholds_that_have_passed_when_it_is_raised_are_not_told():
    found, _ = raise_event(event(date=NOW + 3 * DAY), NOW)
    assert announce_due(found, NOW + DAY) == (found, [])
    _, messages = announce_due(found, NOW + 2 * DAY)
    assert [one.left for one in told(messages)] == [DAY]


def test_another_date_lets_the_thresholds_come_again_and_another_owner_does_not():
    found, _ = raise_event(event(date=NOW + 31 * DAY), NOW)
    found, _ = announce_due(found, NOW + DAY)
    same, messages = change_event(found, NOW + DAY, owner="jo")
    assert (same.told, [one.status for one in told(messages)]) == (found.told, ["updated"])
    later, _ = change_event(found, NOW + DAY, date=NOW + 100 * DAY)
    assert (later.told, next_due_at(later)) == ((), NOW + 70 * DAY)


def test_what_is_withdrawn_or_has_no_date_waits_for_nothing():
    assert next_due_at(event()) is None
    found, _ = raise_event(event(date=NOW + 40 * DAY), NOW)
    gone, messages = withdraw_event(found, NOW)
    assert (next_due_at(gone), [one.status for one in told(messages)]) == (None, ["withdrawn"])
    assert announce_due(gone, NOW + 50 * DAY) == (gone, [])


@given(
    st.lists(st.integers(1, 60 * 24), max_size=5),
    st.integers(1, 60 * 24),
    st.lists(st.integers(0, 70 * 24), min_size=1, max_size=12),
)
def test_whenever_somebody_looks_each_threshold_comes_at_most_once_and_none_after_the_date(
    hours, date, looks
):
    spans = sort_thresholds([hour * DAY // 24 for hour in hours])
    found, _ = raise_event(event(date=NOW + date * DAY // 24, thresholds=spans), NOW)
    seen = []
    for hour in sorted(looks):
        at = NOW + hour * DAY // 24
        wait = next_due_at(found)
        before = found
        found, messages = announce_due(found, at)
        assert bool(messages) is (wait is not None and wait <= at), (
            "it is looked at when, and only when, there is something"
        )
        assert found.version == before.version + len(messages)
        seen += told(messages)
        assert announce_due(found, at) == (found, [])
    lefts = [one.left for one in seen if one.status == "nearing"]
    assert len(set(lefts)) == len(lefts)
    assert lefts == sorted(lefts, reverse=True)
    assert [one.status for one in seen].count("expired") == (max(looks) >= date)
    assert len({one.id for one in seen}) == len(seen)
    assert msgspec.json.decode(msgspec.json.encode(found), type=TrackedEvent) == found
