"""What a fold remembers of one contact in one cycle: base facts only, bounded by the cycle and not by history."""

from typing import Any

import msgspec

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder()


class FoldState:
    """The fold up to its key. `deadlines`, `wake` and `looked_at` are derived, and never stored."""

    __slots__ = (
        "as_of", "at", "count", "deadlines", "dormant", "held", "instance", "looked_at", "message_id", "places", "rings", "seen",
        "seq", "since", "source", "traits", "used", "used_day", "values", "wake",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913, PLR0917
        self,
        at: int,
        source: str,
        message_id: str,
        values: list[float],
        as_of: list[int],
        used: list[float],
        used_day: list[int],
        rings: list[list[int]],
        seen: list[int],
        traits: list[str | None],
        places: list[int],
        since: list[int],
        held: list[int],
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
        self.used = used
        self.used_day = used_day
        self.rings = rings
        self.seen = seen
        self.traits = traits
        self.places = places
        self.since = since
        self.held = held
        self.dormant = dormant
        self.instance = instance
        self.seq = seq
        self.count = count
        self.deadlines: list[int] = [0] * atoms
        self.wake = 0
        self.looked_at = at

    @property
    def key(self) -> tuple[int, str, str]:
        """Return the key of the last touchpoint folded."""
        return (self.at, self.source, self.message_id)

    @property
    def is_empty(self) -> bool:
        """Return whether no touchpoint was folded yet."""
        return self.places[0] < 0

    def copy(self) -> "FoldState":
        """Return an independent state, to be advanced for reading."""
        twin = FoldState(
            self.at, self.source, self.message_id, self.values.copy(), self.as_of.copy(), self.used.copy(),
            self.used_day.copy(), [ring.copy() for ring in self.rings], self.seen.copy(), self.traits.copy(),
            self.places.copy(), self.since.copy(), self.held.copy(), self.dormant, self.instance, self.seq, self.count,
            0,
        )  # fmt: skip
        twin.deadlines = self.deadlines.copy()
        twin.wake = self.wake
        twin.looked_at = self.looked_at
        return twin

    def encode(self) -> bytes:
        """Return the facts as MessagePack: the bytes that two folds are compared by."""
        return _encoder.encode(self.facts())

    def facts(self) -> tuple[Any, ...]:
        """Return the facts in the order of the constructor."""
        return (
            self.at, self.source, self.message_id, self.values, self.as_of, self.used, self.used_day, self.rings,
            self.seen, self.traits, self.places, self.since, self.held, self.dormant, self.instance, self.seq,
            self.count,
        )  # fmt: skip


def decode_state(raw: bytes, atoms: int) -> FoldState:
    """Rebuild a state from its bytes; `atoms` is the number of score atoms of the cycle."""
    facts: list[Any] = _decoder.decode(raw)
    return FoldState(*[*facts, atoms])
