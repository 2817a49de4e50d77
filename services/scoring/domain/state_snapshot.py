"""State snapshots: intermediate fold states, from which a late touchpoint's re-fold resumes.

One is taken every 8 touchpoints. The last 4 are retained, and the latest two multiples of 32, of
128 and of 512: close ones for touchpoints late by minutes, a few far ones that bound the re-fold of
a long history. They are retained by count and not by age, since touchpoints come in bursts.
"""

from functools import lru_cache
from typing import Final

import msgspec

from services.scoring.domain.identity import Key

SNAPSHOT_INTERVAL: Final = 8
_RECENT: Final = 4
_FAR_INTERVALS: Final = (32, 128, 512)


class StateSnapshot(msgspec.Struct, frozen=True):
    """The encoded state after `count` touchpoints, the last of them at `key`."""

    count: int
    key: Key
    state: bytes


def retained_counts(count: int) -> frozenset[int]:
    """Return the touchpoint counts whose snapshots are retained after `count` touchpoints."""
    return _retained_counts(count - count % SNAPSHOT_INTERVAL)


@lru_cache(maxsize=4096)
def _retained_counts(count: int) -> frozenset[int]:
    retained = set()
    for interval, number in (
        (SNAPSHOT_INTERVAL, _RECENT),
        *((interval, 2) for interval in _FAR_INTERVALS),
    ):
        latest = count - count % interval
        retained |= {latest - interval * n for n in range(number)}
    return frozenset(n for n in retained if n > 0)
