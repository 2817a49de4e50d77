"""Decoders of the two MessagePack columns in scoring's views on a contact's position in a cycle.

`published`, the last published state: [sequence, through, [stage, places, dormant, instance],
version]. `state`, the fold state: element 3 has the values of the scores and element 4 their
instants, in the order of the cycle's specification; the first item of element 8 is the instant of
the contact's last own action. A test compares this module with scoring's encoders.
"""

from typing import Any

import msgspec

_decode = msgspec.msgpack.Decoder().decode


def decode_axis_places(published: bytes) -> list[str]:
    """Return the positions on the axes, in the order of the cycle's specification."""
    axis_places: list[str] = _decode(published)[2][1]
    return axis_places


def decode_scores(state: bytes | None) -> tuple[list[float], list[int], int | None]:
    """Return score values, score instants and the instant of the last own action (µs UTC)."""
    if state is None:
        return [], [], None
    facts: list[Any] = _decode(state)
    return facts[3], facts[4], facts[8][0] if facts[8][0] >= 0 else None
