"""How fast a source may send."""

from services.ingest.domain.rate_limiter import DEBT_SECONDS, RateLimiter

SECOND = 1_000_000


def test_debt_is_bounded():
    rates = RateLimiter()
    assert rates.acquire(("w", "s"), 1, 5_000, 0) == 0, "a batch is taken whole"
    assert rates.acquire(("w", "s"), 1, 1, 0) == DEBT_SECONDS, (
        "and shuts the source for so long and no longer"
    )
    assert rates.acquire(("w", "s"), 1, 1, (DEBT_SECONDS + 1) * SECOND) == 0
    assert rates.acquire(("w", "other"), 1, 1, 0) == 0
