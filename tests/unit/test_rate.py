"""How fast a source may send."""

from services.ingest.domain.rate import DEBT_SECONDS, Rates

SECOND = 1_000_000


def test_a_debt_has_an_end():
    rates = Rates()
    assert rates.take(("w", "s"), 1, 5_000, 0) == 0, "a batch is taken whole"
    assert rates.take(("w", "s"), 1, 1, 0) == DEBT_SECONDS, "and shuts the source for so long and no longer"
    assert rates.take(("w", "s"), 1, 1, (DEBT_SECONDS + 1) * SECOND) == 0
    assert rates.take(("w", "other"), 1, 1, 0) == 0
