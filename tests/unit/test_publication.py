"""Published changes: their reasons, and net changes for history and merges."""

from services.scoring.domain.fold_step import StoredFold, fold_and_publish
from services.scoring.domain.publication import FoldContext, change_direction
from tests.support.contact_simulator import ContactSimulator
from tests.support.touchpoints import DAY, HOUR, START, small_cycle, touchpoint

CYCLE = small_cycle()
COMPILED = CYCLE.engine


def fold_event(at, name="Product Viewed", **fields):
    return CYCLE.classifier.to_fold_event(touchpoint(at, name, **fields))


def fold_context(*events, lag=0, **fields):
    keys = [event.key for event in events]
    return FoldContext(
        received={key: key[0] + lag for key in keys}, fresh=frozenset(keys), **fields
    )


def test_prompt_touchpoint_has_reason_touchpoint():
    first = fold_event(0)
    outcome = fold_and_publish(
        COMPILED,
        StoredFold(COMPILED.initial_state(), 0, None),
        [first],
        until=-1,
        context=fold_context(first, lag=HOUR),
    )
    (change,) = outcome.changes

    assert (change.reason, change.direction, change.sequence) == ("touchpoint", "entry", 1)


def test_touchpoint_beyond_reaction_window_is_late():
    first = fold_event(0)

    outcome = fold_and_publish(
        COMPILED,
        StoredFold(COMPILED.initial_state(), 0, None),
        [first],
        until=-1,
        context=fold_context(first, lag=HOUR + 1),
    )

    assert [change.reason for change in outcome.changes] == ["late_touchpoint"]


def test_timed_move_has_reason_time():
    simulator = ContactSimulator(COMPILED)
    simulator.arrive(fold_event(0))

    simulator.tick(START + 5 * DAY)

    assert [(change.reason, change.direction) for change in simulator.published] == [
        ("touchpoint", "entry"),
        ("time", "regression"),
    ]


def test_touchpoint_before_published_dormancy_reenters():
    simulator = ContactSimulator(COMPILED)
    simulator.arrive(fold_event(0))

    simulator.tick(START + 11 * DAY)

    assert simulator.published[-1].direction == "dormancy"

    simulator.arrive(fold_event(9 * DAY))
    reasons = [(change.reason, change.direction) for change in simulator.published[3:]]

    assert reasons == [("touchpoint", "re_entry")]


def test_late_touchpoint_is_cause_of_its_change():
    simulator = ContactSimulator(COMPILED)
    simulator.arrive(fold_event(5 * DAY))
    simulator.arrive(fold_event(4 * DAY, "Order Completed"))
    change = simulator.published[-1]

    assert (change.reason, change.move.message_id) == ("touchpoint", f"m{4 * DAY}-Order Completed")
    assert change.after.stage == "in"


def test_history_is_one_net_change():
    visits = [fold_event(n * 5 * DAY) for n in range(4)]
    context = fold_context(*visits, history=visits[-1].key, frontier=START + 100 * DAY, whole=True)

    outcome = fold_and_publish(
        COMPILED,
        StoredFold(COMPILED.initial_state(), 0, None),
        visits,
        until=START + 100 * DAY,
        context=context,
    )

    assert [(change.reason, change.direction) for change in outcome.changes] == [
        ("history", "entry")
    ]
    assert outcome.changes[0].after.dormant
    assert len(outcome.moves) > 4


def test_moves_after_history_are_published_singly():
    historical, recent = fold_event(0), fold_event(20 * DAY, "Order Completed")
    context = fold_context(
        historical, recent, history=historical.key, frontier=START + 20 * DAY, whole=True
    )

    outcome = fold_and_publish(
        COMPILED,
        StoredFold(COMPILED.initial_state(), 0, None),
        [historical, recent],
        until=START + 20 * DAY,
        context=context,
    )

    assert [change.reason for change in outcome.changes] == ["history", "touchpoint"]
    assert outcome.changes[1].direction == "re_entry"


def test_merge_has_reason_identity_merge():
    first, second = fold_event(0, number=1), fold_event(DAY, "Order Completed", number=2)
    simulator = ContactSimulator(COMPILED)
    simulator.arrive(second)
    stored = StoredFold(COMPILED.initial_state(), 1, simulator.stored.published)
    context = FoldContext(received={}, reason="identity_merge", whole=True)

    outcome = fold_and_publish(COMPILED, stored, [first, second], until=-1, context=context)

    assert [change.reason for change in outcome.changes] == ["identity_merge"]


def test_direction_follows_rings():
    simulator = ContactSimulator(COMPILED)

    for at, name in (
        (0, "Home"),
        (HOUR, "Product Viewed"),
        (2 * HOUR, "Order Completed"),
        (3 * HOUR, "Order Completed"),
    ):
        simulator.arrive(fold_event(at, name))

    assert [change.direction for change in simulator.published] == [
        "entry",
        "advance",
        "advance",
        "repeat",
    ]

    skip = change_direction(COMPILED, simulator.published[0].after, simulator.published[2].after)

    assert skip == "skip"
