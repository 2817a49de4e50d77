"""For any order of arrival, stored rows equal a fresh fold and published changes form a chain."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.property.test_fold import compile_random_cycle, with_known_traits
from tests.support.contact_simulator import ContactSimulator
from tests.support.cycle_strategies import SPAN, histories, specs

slow = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def deliver_in_any_order(data, simulator, history):
    """Deliver in any order, two touchpoints twice, and fire timers up to a growing frontier."""
    order = data.draw(st.permutations(history))
    frontier = 0
    for event in [*order, *order[:2]]:
        simulator.arrive(event)
        frontier = data.draw(st.integers(frontier, SPAN))
        simulator.tick(frontier)


def deliver_nearly_in_order(data, simulator, history):
    """Deliver nearly in order, with timers just past each touchpoint, so that flips are revoked."""
    waiting = list(history)
    while waiting:
        event = waiting.pop(min(len(waiting) - 1, data.draw(st.sampled_from([0, 0, 0, 1]))))
        simulator.arrive(event)
        simulator.tick(event.at + data.draw(st.integers(0, 20)))


def assert_rows_and_changes_match(simulator):
    end = SPAN * 2
    assert simulator.pure(end) == simulator.fresh_fold(end)
    changes = simulator.published
    assert [change.sequence for change in changes] == list(range(1, len(changes) + 1))
    position = None
    for change in changes:
        assert change.before == position
        assert change.after != position
        position = change.after
    last = simulator.rows[max(simulator.rows)]
    assert position == last.after == simulator.stored.published.position


@given(specs(), histories(), st.data())
@slow
def test_stored_rows_match_after_any_arrival_order(raw, history, data):
    compiled = compile_random_cycle(raw)
    simulator = ContactSimulator(compiled)
    deliver_in_any_order(data, simulator, with_known_traits(compiled, history))
    assert_rows_and_changes_match(simulator)


@given(specs(), histories(), st.data())
@slow
def test_stored_rows_match_after_revoked_flips(raw, history, data):
    compiled = compile_random_cycle(raw)
    simulator = ContactSimulator(compiled)
    deliver_nearly_in_order(data, simulator, with_known_traits(compiled, history))
    assert_rows_and_changes_match(simulator)
