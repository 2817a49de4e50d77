"""The door's window of accepted message ids."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.domain.recent import Recent, place_of

SECOND = 1_000_000


def place(name):
    return ("w", "s", name)


def test_ids_fall_out_by_time_and_by_number():
    recent = Recent(seconds=10, ids=3)
    recent.add([place("a")], 0)
    recent.add([place("b")], 9 * SECOND)
    assert place("a") in recent
    recent.add([], 10 * SECOND)
    assert place("a") not in recent
    recent.add([place(c) for c in "cdef"], 10 * SECOND)
    assert [c for c in "abcdef" if place(c) in recent] == ["d", "e", "f"]


def test_the_same_id_of_another_source_is_another_message():
    recent = Recent()
    recent.add([("w", "s", "a")], 0)
    assert ("w", "t", "a") not in recent
    assert ("v", "s", "a") not in recent


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5))), st.integers(1, 8), st.integers(1, 10))
def test_it_is_bounded_and_never_wrong_about_the_newest(adds, seconds, ids):
    recent, now = Recent(seconds, ids), 0
    for number, wait in adds:
        now += wait * SECOND
        recent.add([place(str(number))], now)
        assert len(recent._seen) <= ids
        assert all(at > now - seconds * SECOND for at in recent._seen.values())


@pytest.mark.parametrize("name", ["m" * 65, "\N{GRINNING FACE}" * 512, "é"])
def test_a_long_id_is_kept_by_its_digest(name):
    assert place_of("w", "s", name) == place_of("w", "s", name)
    assert place_of("w", "s", name) != place_of("w", "s", name + "x")
    assert len(place_of("w", "s", name)[2]) == 16
    assert place_of("w", "s", "short") == ("w", "s", "short")
