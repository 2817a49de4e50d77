"""Where a contact stands, as scoring's views show it to others: the two MessagePack columns behind them, read.

`published` is what was last told: [sequence, through, [stage, places, dormant, instance], version]. `state` is the fold: of its
facts, position 3 has the scores' values and 4 their instants, in the order of the cycle's specification; the first of 8 is the
contact's last own act. A test holds this page to scoring's own encoders.
"""

from typing import Any

import msgspec

_decode = msgspec.msgpack.Decoder().decode


def decode_axis_places(published: bytes) -> list[str]:
    """Return the places on the axes, in the order of the cycle's specification."""
    found: list[str] = _decode(published)[2][1]
    return found


def decode_scores(state: bytes | None) -> tuple[list[float], list[int], int | None]:
    """Return the scores' values, their instants (µs UTC), and when the contact last did something of its own."""
    if state is None:
        return [], [], None
    facts: list[Any] = _decode(state)
    return facts[3], facts[4], facts[8][0] if facts[8][0] >= 0 else None
