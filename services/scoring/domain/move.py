"""Where a contact stands, and how it got there: one transition is one move."""

import msgspec

_encoder = msgspec.msgpack.Encoder()


class Position(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Where a contact stands: the engagement stage, the place on each axis, the flag, the cycle instance."""

    stage: str
    places: list[str]
    dormant: bool
    instance: str


class Move(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One transition, pure: no reason, no ids, no time of receipt. `timed` moves have no touchpoint as cause."""

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
        """Return the place in the one order of moves: at an instant time goes first."""
        return (self.at, not self.timed, self.source, self.message_id)

    def encode(self) -> bytes:
        """Return the bytes that two folds are compared by."""
        return _encoder.encode(self)


decode_move = msgspec.msgpack.Decoder(Move).decode
