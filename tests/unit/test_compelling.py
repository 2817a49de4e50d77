"""Compelling events: each threshold once, whenever somebody looks; the date ends it. No clock, no database."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from libs.common.messages import CompellingEvent, decode_value
from services.scoring.domain.compelling import (
    DAY,
    Event,
    changed,
    looked_at,
    next_look,
    raised,
    thresholds_of,
    withdrawn,
)

NOW = 1_780_000_000_000_000


def event(**fields):
    return Event("e", "default", "contract_ends", "contact", "c", **fields)


def told(messages):
    return [decode_value(CompellingEvent, message.value) for message in messages]


def test_a_date_is_told_at_each_threshold_once_and_ends_it():
    found, messages = raised(event(date=NOW + 40 * DAY), NOW)
    assert [one.status for one in told(messages)] == ["raised"]
    seen = []
    for day in range(42):
        found, messages = looked_at(found, NOW + day * DAY)
        seen += [(day, one.status, one.left) for one in told(messages)]
    assert seen == [(10, "nearing", 30 * DAY), (33, "nearing", 7 * DAY), (39, "nearing", DAY), (40, "expired", None)]
    assert (found.standing, next_look(found)) == ("expired", None)
    assert found.version == 5


def test_thresholds_that_have_passed_when_it_is_raised_are_not_told():
    found, _ = raised(event(date=NOW + 3 * DAY), NOW)
    assert looked_at(found, NOW + DAY) == (found, [])
    _, messages = looked_at(found, NOW + 2 * DAY)
    assert [one.left for one in told(messages)] == [DAY]


def test_another_date_lets_the_thresholds_come_again_and_another_owner_does_not():
    found, _ = raised(event(date=NOW + 31 * DAY), NOW)
    found, _ = looked_at(found, NOW + DAY)
    same, messages = changed(found, NOW + DAY, owner="jo")
    assert (same.told, [one.status for one in told(messages)]) == (found.told, ["updated"])
    later, _ = changed(found, NOW + DAY, date=NOW + 100 * DAY)
    assert (later.told, next_look(later)) == ((), NOW + 70 * DAY)


def test_what_is_withdrawn_or_has_no_date_waits_for_nothing():
    assert next_look(event()) is None
    found, _ = raised(event(date=NOW + 40 * DAY), NOW)
    gone, messages = withdrawn(found, NOW)
    assert (next_look(gone), [one.status for one in told(messages)]) == (None, ["withdrawn"])
    assert looked_at(gone, NOW + 50 * DAY) == (gone, [])


@given(
    st.lists(st.integers(1, 60 * 24), max_size=5),
    st.integers(1, 60 * 24),
    st.lists(st.integers(0, 70 * 24), min_size=1, max_size=12),
)
def test_whenever_somebody_looks_each_threshold_comes_at_most_once_and_none_after_the_date(hours, date, looks):
    spans = thresholds_of([hour * DAY // 24 for hour in hours])
    found, _ = raised(event(date=NOW + date * DAY // 24, thresholds=spans), NOW)
    seen = []
    for hour in sorted(looks):
        at = NOW + hour * DAY // 24
        wait = next_look(found)
        before = found
        found, messages = looked_at(found, at)
        assert bool(messages) is (wait is not None and wait <= at), (
            "it is looked at when, and only when, there is something"
        )
        assert found.version == before.version + len(messages)
        seen += told(messages)
        assert looked_at(found, at) == (found, [])
    lefts = [one.left for one in seen if one.status == "nearing"]
    assert len(set(lefts)) == len(lefts)
    assert lefts == sorted(lefts, reverse=True)
    assert [one.status for one in seen].count("expired") == (max(looks) >= date)
    assert len({one.id for one in seen}) == len(seen)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Event) == found
