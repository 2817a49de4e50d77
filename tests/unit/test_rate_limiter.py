"""Rate limiter of a source: batches are accepted whole, the debt is bounded."""

from services.ingest.domain.rate_limiter import DEBT_SECONDS, RateLimiter

SECOND = 1_000_000


def test_debt_of_a_batch_is_bounded():
    limiter = RateLimiter()

    assert limiter.acquire(("w", "s"), 1, 5_000, 0) == 0, "a batch is accepted whole"
    assert limiter.acquire(("w", "s"), 1, 1, 0) == DEBT_SECONDS, (
        "and blocks the source for a bounded time"
    )
    assert limiter.acquire(("w", "s"), 1, 1, (DEBT_SECONDS + 1) * SECOND) == 0
    assert limiter.acquire(("w", "other"), 1, 1, 0) == 0
