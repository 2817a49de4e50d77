"""Rate limiter: a token bucket for each source, per process."""

import math

BURST_SECONDS = 2
DEBT_SECONDS = 60


class RateLimiter:
    """Buckets by (workspace, source) with the tokens of BURST_SECONDS; a bucket starts full."""

    def __init__(self) -> None:
        self._buckets: dict[tuple[str, str], tuple[float, int]] = {}
        """{source: (tokens, instant of the last request)}"""

    def acquire(self, source: tuple[str, str], per_second: int, count: int, now: int) -> int:
        """Take `count` tokens at `now` (µs); return 0, or the seconds to wait before a retry.

        A batch is accepted whole as long as the bucket is not empty, and leaves a debt: a batch
        larger than the bucket would never be accepted otherwise. The debt is at most that of
        DEBT_SECONDS.
        """
        tokens, last = self._buckets.get(source, (float(per_second * BURST_SECONDS), now))
        tokens = min(
            tokens + max(0, now - last) / 1_000_000 * per_second, float(per_second * BURST_SECONDS)
        )
        if tokens > 0:
            self._buckets[source] = (max(tokens - count, -float(per_second * DEBT_SECONDS)), now)
            return 0
        self._buckets[source] = (tokens, now)
        return max(1, math.ceil(-tokens / per_second))
