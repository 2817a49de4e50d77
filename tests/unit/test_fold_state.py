"""Stored fold states: caps of the day only, and the bytes of earlier versions."""

import msgspec

from services.scoring.domain.fold import fold
from tests.support.touchpoints import DAY, HOUR, shipped, touchpoint

CYCLE = shipped()
ENGINE = CYCLE.engine


def folded(*touchpoints):
    state = ENGINE.initial_state()
    fold(ENGINE, state, [CYCLE.classifier.to_fold_event(t) for t in touchpoints])
    return state


def views(count, at=0):
    """Return views of products, whose points are capped per day."""
    return [touchpoint(at + n * 1_000, "Product Viewed", number=n) for n in range(count)]


def encode_with_every_cap(state):
    """Return the bytes of versions that stored each cap in its slot."""
    facts = list(state.facts())
    facts[5], facts[6] = state.cap_used, state.cap_day
    return msgspec.msgpack.encode(facts)


def test_caps_of_the_day_survive_storage():
    state = folded(*views(3))

    stored = ENGINE.decode_state(state.encode())

    assert any(stored.cap_used)
    assert (stored.cap_used, stored.cap_day) == (state.cap_used, state.cap_day)


def test_caps_of_earlier_days_are_not_stored():
    state = folded(*views(3), touchpoint(2 * DAY, "Complaint Received", number=9))

    stored = ENGINE.decode_state(state.encode())

    assert not any(day == state.at // DAY - 2 for day in stored.cap_day)


def test_fold_goes_on_equally_after_storage():
    first, later = views(30), [*views(3, HOUR), *views(5, 26 * HOUR)]
    state = ENGINE.decode_state(folded(*first).encode())

    fold(ENGINE, state, [CYCLE.classifier.to_fold_event(t) for t in later])

    assert state.encode() == folded(*first, *later).encode()


def test_states_of_earlier_versions_are_read():
    state = folded(*views(3))

    stored = ENGINE.decode_state(encode_with_every_cap(state))

    assert stored.encode() == state.encode()
    assert len(state.encode()) < len(encode_with_every_cap(state)) - 50
