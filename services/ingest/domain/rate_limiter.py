"""How fast a source may send: a token bucket each, for one process."""

import math

BURST_SECONDS = 2
DEBT_SECONDS = 60


class RateLimiter:
    """Buckets by (workspace, source); each holds what `BURST_SECONDS` of its rate bring, and starts full."""

    def __init__(self) -> None:
        self._buckets: dict[tuple[str, str], tuple[float, int]] = {}
        """{source: (tokens, when)}"""

    def acquire(self, source: tuple[str, str], per_second: int, count: int, now: int) -> int:
        """Take `count` tokens at `now` (microseconds); return 0, or after how many seconds to come again.

        A batch is taken whole as long as the bucket is not empty, and leaves a debt: one that is larger than the bucket
        would never be taken otherwise. The debt ends at `DEBT_SECONDS`: nobody shuts a source for longer.
        """
        tokens, when = self._buckets.get(source, (float(per_second * BURST_SECONDS), now))
        tokens = min(
            tokens + max(0, now - when) / 1_000_000 * per_second, float(per_second * BURST_SECONDS)
        )
        if tokens > 0:
            self._buckets[source] = (max(tokens - count, -float(per_second * DEBT_SECONDS)), now)
            return 0
        self._buckets[source] = (tokens, now)
        return max(1, math.ceil(-tokens / per_second))
