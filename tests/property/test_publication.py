"""Whatever arrives when: the stored rows equal a fresh fold, and what was published obeys its laws."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.property.test_fold import engine_of, known
from tests.support.contact_simulator import ContactSimulator
from tests.support.cycle_strategies import SPAN, histories, specs

slow = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def arrive(data, ledger, history):
    """Let touchpoints arrive in any order, some twice, timers firing between them up to a frontier that only grows."""
    order = data.draw(st.permutations(history))
    frontier = 0
    for occurrence in [*order, *order[:2]]:
        ledger.arrive(occurrence)
        frontier = data.draw(st.integers(frontier, SPAN))
        ledger.tick(frontier)


def arrive_nearly_in_order(data, ledger, history):
    """The directed case: mostly in order, and timers fire just past the last touchpoint, so flips are taken back."""
    waiting = list(history)
    while waiting:
        occurrence = waiting.pop(min(len(waiting) - 1, data.draw(st.sampled_from([0, 0, 0, 1]))))
        ledger.arrive(occurrence)
        ledger.tick(occurrence.at + data.draw(st.integers(0, 20)))


def check(ledger):
    end = SPAN * 2
    assert ledger.pure(end) == ledger.fresh_fold(end)
    changes = ledger.published
    assert [c.sequence for c in changes] == list(range(1, len(changes) + 1))
    position = None
    for change in changes:
        assert change.before == position
        assert change.after != position
        position = change.after
    last = ledger.rows[max(ledger.rows)]
    assert position == last.after == ledger.held.published.position


@given(specs(), histories(), st.data())
@slow
def test_any_order_of_arrival(raw, history, data):
    engine = engine_of(raw)
    ledger = ContactSimulator(engine)
    arrive(data, ledger, known(engine, history))
    check(ledger)


@given(specs(), histories(), st.data())
@slow
def test_flips_that_are_taken_back(raw, history, data):
    engine = engine_of(raw)
    ledger = ContactSimulator(engine)
    arrive_nearly_in_order(data, ledger, known(engine, history))
    check(ledger)
