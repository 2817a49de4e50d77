"""Window of accepted message ids for deduplication, bounded by age and number."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.domain.deduplication_window import DeduplicationWindow, deduplication_key

SECOND = 1_000_000


def key_of(name):
    return deduplication_key("w", "s", name)


def known_ids(window, names):
    return "".join(name for name in names if window.find_known([key_of(name)]))


def test_ids_expire_by_age_and_number():
    window = DeduplicationWindow(seconds=10, ids=3)
    window.add([key_of("a")], 0)

    window.add([key_of("b")], 9 * SECOND)

    assert known_ids(window, "ab") == "ab"

    window.add([], 10 * SECOND)

    assert known_ids(window, "ab") == "b"

    window.add([key_of(name) for name in "cdef"], 10 * SECOND)

    assert known_ids(window, "abcdef") == "def"


def test_ids_of_different_sources_differ():
    window = DeduplicationWindow()

    window.add([key_of("a")], 0)

    assert not window.find_known(
        [
            deduplication_key("w", "t", "a"),
            deduplication_key("v", "s", "a"),
            deduplication_key("w", "sa", ""),
        ]
    )


def test_repeated_id_expires_after_first_arrival():
    window = DeduplicationWindow(seconds=10)
    window.add([key_of("a")], 0)
    window.add([key_of("a"), key_of("b")], 5 * SECOND)

    window.add([], 10 * SECOND)

    assert known_ids(window, "ab") == "b"

    window.add([], 15 * SECOND)

    assert known_ids(window, "ab") == ""


def test_clock_going_back_keeps_buckets_bounded():
    window = DeduplicationWindow(seconds=10)
    window.add([key_of("a")], 50 * SECOND)

    for number in range(30_000):
        window.add([key_of(str(number))], 0)

    assert max(len(ids) for _, ids in window._slots) <= 10_000

    window.add([], 60 * SECOND)

    assert known_ids(window, ["a", "0", "29999"]) == ""


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5))),
    st.integers(1, 8),
    st.integers(1, 10),
)
def test_window_is_bounded_with_newest_ids(adds, seconds, ids):
    window, now = DeduplicationWindow(seconds, ids), 0

    for number, pause in adds:
        now += pause * SECOND
        window.add([key_of(str(number))], now)
        remembered = [
            key
            for added_at, keys in window._slots
            for key in keys
            if added_at > now - seconds * SECOND
        ]

        assert sorted(remembered) == sorted(window._seen)
        assert len(remembered) <= ids


@pytest.mark.parametrize("name", ["m" * 65, "\N{GRINNING FACE}" * 17])
def test_long_id_is_replaced_by_digest(name):
    assert deduplication_key("w", "s", name) == deduplication_key("w", "s", name)
    assert deduplication_key("w", "s", name) != deduplication_key("w", "s", name + "x")
    assert len(deduplication_key("w", "s", name)) == 21
