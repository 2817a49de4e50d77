"""Checkpoints: states kept on the way, so that a late touchpoint folds a contact's last few again and not its life.

One every 8 touchpoints; of these the last 4 are kept, and the latest two multiples of 32, of 128 and of 512: close ones
for what is late by minutes, a few far ones so that no re-fold of a long history is long. Kept by count and not by age,
since touchpoints come in bursts.
"""

from functools import lru_cache
from typing import Final

import msgspec

from services.scoring.domain.identity import Key

SNAPSHOT_INTERVAL: Final = 8
_LAST: Final = 4
_FAR: Final = (32, 128, 512)


class StateSnapshot(msgspec.Struct, frozen=True):
    """The state after `count` touchpoints, the last of them at `key`."""

    count: int
    key: Key
    state: bytes


def retained_counts(count: int) -> frozenset[int]:
    """Return the counts whose checkpoints are kept when `count` touchpoints are folded."""
    return _kept(count - count % SNAPSHOT_INTERVAL)


@lru_cache(maxsize=4096)
def _kept(count: int) -> frozenset[int]:
    found = set()
    for step, many in ((SNAPSHOT_INTERVAL, _LAST), *((far, 2) for far in _FAR)):
        last = count - count % step
        found |= {last - step * n for n in range(many)}
    return frozenset(n for n in found if n > 0)
