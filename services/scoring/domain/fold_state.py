"""Fold state of one contact in one cycle version: base facts only.

The state's size is bounded by the cycle and does not grow with the contact's history.
"""

from typing import Any

import msgspec

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder()
_DAY = 86_400_000_000


class FoldState:
    """The fold up to and including its key; instants are microseconds UTC.

    Stored facts:

    - `at`, `source`, `message_id`: the key of the last touchpoint folded; `count`: how many were
    - `values`, `as_of`: each score's value and the instant of its last contribution
    - `cap_used`, `cap_day`: the points of each capped contribution on the UTC day that it last
      counted (days since 1970)
    - `rings`: the newest instants of each counted signal; `seen`: the last instant of each watched
      signal, -1 for never, slot 0 for any observed act of the contact's own initiative
    - `traits`: the traits that conditions compare
    - `places`, `since`: the index of each axis's stage (-1 before the first touchpoint) and the
      instant it was entered; `manual_until`: the end of a stage set by hand
    - `dormant`, `instance`, `seq`: the flag, the cycle instance, the number of the last move

    Derived, never stored: `deadlines` (the crossing of each score atom), `next_flip` (the next
    instant to evaluate) and `evaluated_at` (the last one). 0 in `deadlines` and `next_flip` means
    that it has to be computed.
    """

    __slots__ = (
        "as_of", "at", "cap_day", "cap_used", "count", "deadlines", "dormant", "evaluated_at",
        "instance", "manual_until", "message_id", "next_flip", "places", "rings", "seen", "seq",
        "since", "source", "traits", "values",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913, PLR0917
        self,
        at: int,
        source: str,
        message_id: str,
        values: list[float],
        as_of: list[int],
        cap_used: list[float],
        cap_day: list[int],
        rings: list[list[int]],
        seen: list[int],
        traits: list[str | None],
        places: list[int],
        since: list[int],
        manual_until: list[int],
        dormant: bool,
        instance: str,
        seq: int,
        count: int,
        atoms: int,
    ) -> None:
        self.at = at
        self.source = source
        self.message_id = message_id
        self.values = values
        self.as_of = as_of
        self.cap_used = cap_used
        self.cap_day = cap_day
        self.rings = rings
        self.seen = seen
        self.traits = traits
        self.places = places
        self.since = since
        self.manual_until = manual_until
        self.dormant = dormant
        self.instance = instance
        self.seq = seq
        self.count = count
        self.deadlines: list[int] = [0] * atoms
        self.next_flip = 0
        self.evaluated_at = at

    @property
    def key(self) -> tuple[int, str, str]:
        """Return the key of the last touchpoint folded: (occurred_at, source, message_id)."""
        return (self.at, self.source, self.message_id)

    @property
    def is_empty(self) -> bool:
        """Return whether no touchpoint was folded yet."""
        return self.places[0] < 0

    def copy(self) -> "FoldState":
        """Return an independent state, to be advanced for reads and timers."""
        twin = FoldState(
            self.at, self.source, self.message_id, self.values.copy(), self.as_of.copy(),
            self.cap_used.copy(), self.cap_day.copy(), [ring.copy() for ring in self.rings],
            self.seen.copy(), self.traits.copy(), self.places.copy(), self.since.copy(),
            self.manual_until.copy(), self.dormant, self.instance, self.seq, self.count, 0,
        )  # fmt: skip
        twin.deadlines = self.deadlines.copy()
        twin.next_flip = self.next_flip
        twin.evaluated_at = self.evaluated_at
        return twin

    def encode(self) -> bytes:
        """Return the facts as MessagePack; equal folds have equal bytes."""
        return _encoder.encode(self.facts())

    def facts(self) -> tuple[Any, ...]:
        """Return the stored facts in the order of the constructor.

        Of the caps only those of the day of `at` are stored, the fields that a later touchpoint may
        need: the points of each, and as pairs their slots and days.
        """
        today = self.at // _DAY
        used: list[float] = []
        days: list[int] = []
        for slot, day in enumerate(self.cap_day):
            if day == today:
                used.append(self.cap_used[slot])
                days.append(slot)
                days.append(day)
        return (
            self.at, self.source, self.message_id, self.values, self.as_of, used, days,
            self.rings, self.seen, self.traits, self.places, self.since,
            self.manual_until, self.dormant, self.instance, self.seq, self.count,
        )  # fmt: skip


def decode_state(raw: bytes, atoms: int, caps: int) -> FoldState:
    """Rebuild a state from its bytes; the cycle has `atoms` score atoms and `caps` caps.

    Bytes of earlier versions, which have every cap, are read too.
    """
    facts: list[Any] = _decoder.decode(raw)
    used: list[float] = facts[5]
    days: list[int] = facts[6]
    if len(days) == 2 * len(used):
        facts[5], facts[6] = [0.0] * caps, [-1] * caps
        for number, points in enumerate(used):
            slot = days[2 * number]
            facts[5][slot] = points
            facts[6][slot] = days[2 * number + 1]
    return FoldState(*[*facts, atoms])
