"""Positions of a contact in a cycle, and moves: the pure transitions between them."""

import msgspec

_encoder = msgspec.msgpack.Encoder()


class Position(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A contact's position in a cycle.

    `stage` is the engagement stage, `places` the stage of each axis in declared order, `dormant`
    the flag beside the stage, `instance` the id (`source:message_id`) of the cycle instance.
    """

    stage: str
    places: list[str]
    dormant: bool
    instance: str


class Move(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One pure transition: no reason, no ids, no time of receipt.

    `at` is the instant (µs UTC), `values` every score at that instant. A `timed` move is a flip by
    time and has no touchpoint as its cause; others name theirs. `before` is None for the entry.
    """

    version: str
    seq: int
    at: int
    timed: bool
    source: str
    message_id: str
    before: Position | None
    after: Position
    values: list[float]

    @property
    def key(self) -> tuple[int, bool, str, str]:
        """Return the move's sort key: at one instant a move by time comes first."""
        return (self.at, not self.timed, self.source, self.message_id)

    def encode(self) -> bytes:
        """Return the move as MessagePack; equal folds have equal bytes."""
        return _encoder.encode(self)


decode_move = msgspec.msgpack.Decoder(Move).decode
