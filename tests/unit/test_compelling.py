"""Compelling events: each threshold is announced once, and the date expires the event."""

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


def tracked_event(**fields):
    return TrackedEvent("e", "default", "contract_ends", "contact", "c", **fields)


def decoded(messages):
    return [decode_value(CompellingEvent, message.value) for message in messages]


def test_thresholds_are_announced_once_until_expiry():
    tracked, messages = raise_event(tracked_event(date=NOW + 40 * DAY), NOW)

    assert [message.status for message in decoded(messages)] == ["raised"]

    announced = []
    for day in range(42):
        tracked, messages = announce_due(tracked, NOW + day * DAY)
        announced += [(day, message.status, message.left) for message in decoded(messages)]

    assert announced == [
        (10, "nearing", 30 * DAY),
        (33, "nearing", 7 * DAY),
        (39, "nearing", DAY),
        (40, "expired", None),
    ]
    assert (tracked.standing, next_due_at(tracked)) == ("expired", None)
    assert tracked.version == 5


def test_thresholds_passed_at_raising_are_skipped():
    tracked, _ = raise_event(tracked_event(date=NOW + 3 * DAY), NOW)

    assert announce_due(tracked, NOW + DAY) == (tracked, [])

    _, messages = announce_due(tracked, NOW + 2 * DAY)

    assert [message.left for message in decoded(messages)] == [DAY]


def test_only_a_new_date_resets_thresholds():
    tracked, _ = raise_event(tracked_event(date=NOW + 31 * DAY), NOW)
    tracked, _ = announce_due(tracked, NOW + DAY)

    same_date, messages = change_event(tracked, NOW + DAY, owner="jo")

    assert (same_date.told, [message.status for message in decoded(messages)]) == (
        tracked.told,
        ["updated"],
    )

    later_date, _ = change_event(tracked, NOW + DAY, date=NOW + 100 * DAY)

    assert (later_date.told, next_due_at(later_date)) == ((), NOW + 70 * DAY)


def test_withdrawn_or_undated_event_is_never_due():
    assert next_due_at(tracked_event()) is None

    tracked, _ = raise_event(tracked_event(date=NOW + 40 * DAY), NOW)
    withdrawn, messages = withdraw_event(tracked, NOW)

    assert (next_due_at(withdrawn), [message.status for message in decoded(messages)]) == (
        None,
        ["withdrawn"],
    )
    assert announce_due(withdrawn, NOW + 50 * DAY) == (withdrawn, [])


@given(
    st.lists(st.integers(1, 60 * 24), max_size=5),
    st.integers(1, 60 * 24),
    st.lists(st.integers(0, 70 * 24), min_size=1, max_size=12),
)
def test_any_polling_announces_each_threshold_at_most_once(hours, date, polls):
    thresholds = sort_thresholds([hour * DAY // 24 for hour in hours])
    tracked, _ = raise_event(tracked_event(date=NOW + date * DAY // 24, thresholds=thresholds), NOW)
    announced = []

    for hour in sorted(polls):
        at = NOW + hour * DAY // 24
        due_at = next_due_at(tracked)
        before = tracked
        tracked, messages = announce_due(tracked, at)

        assert bool(messages) is (due_at is not None and due_at <= at), (
            "announcements are due exactly at next_due_at"
        )
        assert tracked.version == before.version + len(messages)

        announced += decoded(messages)

        assert announce_due(tracked, at) == (tracked, [])

    remaining = [message.left for message in announced if message.status == "nearing"]

    assert len(set(remaining)) == len(remaining)
    assert remaining == sorted(remaining, reverse=True)
    assert [message.status for message in announced].count("expired") == (max(polls) >= date)
    assert len({message.id for message in announced}) == len(announced)
    assert msgspec.json.decode(msgspec.json.encode(tracked), type=TrackedEvent) == tracked
