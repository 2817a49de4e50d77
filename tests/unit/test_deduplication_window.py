"""The door's window of accepted message ids."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.domain.deduplication_window import DeduplicationWindow, deduplication_key

SECOND = 1_000_000


def place(name):
    return deduplication_key("w", "s", name)


def kept(recent, names):
    return "".join(name for name in names if recent.find_known([place(name)]))


def test_ids_expire_by_time_and_by_number():
    recent = DeduplicationWindow(seconds=10, ids=3)
    recent.add([place("a")], 0)
    recent.add([place("b")], 9 * SECOND)
    assert kept(recent, "ab") == "ab"
    recent.add([], 10 * SECOND)
    assert kept(recent, "ab") == "b"
    recent.add([place(c) for c in "cdef"], 10 * SECOND)
    assert kept(recent, "abcdef") == "def"


def test_ids_are_per_source():
    recent = DeduplicationWindow()
    recent.add([place("a")], 0)
    assert not recent.find_known(
        [
            deduplication_key("w", "t", "a"),
            deduplication_key("v", "s", "a"),
            deduplication_key("w", "sa", ""),
        ]
    )


def test_repeated_id_keeps_its_first_instant():
    recent = DeduplicationWindow(seconds=10)
    recent.add([place("a")], 0)
    recent.add([place("a"), place("b")], 5 * SECOND)
    recent.add([], 10 * SECOND)
    assert kept(recent, "ab") == "b"
    recent.add([], 15 * SECOND)
    assert kept(recent, "ab") == ""


def test_clock_set_back_makes_no_large_slot():
    recent = DeduplicationWindow(seconds=10)
    recent.add([place("a")], 50 * SECOND)
    for number in range(30_000):
        recent.add([place(str(number))], 0)
    assert max(len(ids) for _, ids in recent._slots) <= 10_000
    recent.add([], 60 * SECOND)
    assert kept(recent, ["a", "0", "29999"]) == ""


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5))),
    st.integers(1, 8),
    st.integers(1, 10),
)
def test_window_is_bounded_and_has_the_newest_ids(adds, seconds, ids):
    recent, now = DeduplicationWindow(seconds, ids), 0
    for number, wait in adds:
        now += wait * SECOND
        recent.add([place(str(number))], now)
        left = [
            one for at, together in recent._slots for one in together if at > now - seconds * SECOND
        ]
        assert sorted(left) == sorted(recent._seen)
        assert len(left) <= ids


@pytest.mark.parametrize("name", ["m" * 65, "\N{GRINNING FACE}" * 17])
def test_long_id_is_stored_as_digest(name):
    assert deduplication_key("w", "s", name) == deduplication_key("w", "s", name)
    assert deduplication_key("w", "s", name) != deduplication_key("w", "s", name + "x")
    assert len(deduplication_key("w", "s", name)) == 21
