"""The reasons and the net changes, case by case."""

from services.scoring.domain.fold_step import StoredFold, fold_and_publish
from services.scoring.domain.publication import FoldContext, change_direction
from tests.support.contact_simulator import ContactSimulator
from tests.support.touchpoints import DAY, HOUR, START, small_cycle, touchpoint

CYCLE = small_cycle()
ENGINE = CYCLE.engine


def occurrence(at, name="Product Viewed", **fields):
    return CYCLE.classifier.to_fold_event(touchpoint(at, name, **fields))


def known(*occurrences, lag=0, **fields):
    keys = [o.key for o in occurrences]
    return FoldContext(received={k: k[0] + lag for k in keys}, fresh=frozenset(keys), **fields)


def test_a_prompt_touchpoint_has_the_ordinary_reason():
    first = occurrence(0)
    outcome = fold_and_publish(
        ENGINE,
        StoredFold(ENGINE.initial_state(), 0, None),
        [first],
        until=-1,
        context=known(first, lag=HOUR),
    )
    (change,) = outcome.changes
    assert (change.reason, change.direction, change.sequence) == ("touchpoint", "entry", 1)


def test_a_touchpoint_beyond_the_reaction_window_is_late():
    first = occurrence(0)
    outcome = fold_and_publish(
        ENGINE,
        StoredFold(ENGINE.initial_state(), 0, None),
        [first],
        until=-1,
        context=known(first, lag=HOUR + 1),
    )
    assert [c.reason for c in outcome.changes] == ["late_touchpoint"]


def test_a_move_by_time_is_ordinary():
    ledger = ContactSimulator(ENGINE)
    ledger.arrive(occurrence(0))
    ledger.tick(START + 5 * DAY)
    assert [(c.reason, c.direction) for c in ledger.published] == [
        ("touchpoint", "entry"),
        ("time", "regression"),
    ]


def test_a_published_flip_that_is_taken_back_is_corrected():
    ledger = ContactSimulator(ENGINE)
    ledger.arrive(occurrence(0))
    ledger.tick(START + 11 * DAY)
    assert ledger.published[-1].direction == "dormancy"
    ledger.arrive(occurrence(9 * DAY))
    reasons = [(c.reason, c.direction) for c in ledger.published[3:]]
    assert reasons == [("touchpoint", "re_entry")]


def test_a_late_touchpoint_that_changes_the_published_past_is_its_own_cause():
    ledger = ContactSimulator(ENGINE)
    ledger.arrive(occurrence(5 * DAY))
    ledger.arrive(occurrence(4 * DAY, "Order Completed"))
    change = ledger.published[-1]
    assert (change.reason, change.move.message_id) == ("touchpoint", f"m{4 * DAY}-Order Completed")
    assert change.after.stage == "in"


def test_history_is_one_net_change():
    visits = [occurrence(n * 5 * DAY) for n in range(4)]
    given = known(*visits, history=visits[-1].key, frontier=START + 100 * DAY, whole=True)
    outcome = fold_and_publish(
        ENGINE,
        StoredFold(ENGINE.initial_state(), 0, None),
        visits,
        until=START + 100 * DAY,
        context=given,
    )
    assert [(c.reason, c.direction) for c in outcome.changes] == [("history", "entry")]
    assert outcome.changes[0].after.dormant
    assert len(outcome.moves) > 4


def test_recent_moves_after_history_are_told_one_by_one():
    old, new = occurrence(0), occurrence(20 * DAY, "Order Completed")
    given = known(old, new, history=old.key, frontier=START + 20 * DAY, whole=True)
    outcome = fold_and_publish(
        ENGINE,
        StoredFold(ENGINE.initial_state(), 0, None),
        [old, new],
        until=START + 20 * DAY,
        context=given,
    )
    assert [c.reason for c in outcome.changes] == ["history", "touchpoint"]
    assert outcome.changes[1].direction == "re_entry"


def test_a_merge_says_so():
    first, second = occurrence(0, number=1), occurrence(DAY, "Order Completed", number=2)
    ledger = ContactSimulator(ENGINE)
    ledger.arrive(second)
    held = StoredFold(ENGINE.initial_state(), 1, ledger.held.published)
    given = FoldContext(received={}, reason="identity_merge", whole=True)
    outcome = fold_and_publish(ENGINE, held, [first, second], until=-1, context=given)
    assert [c.reason for c in outcome.changes] == ["identity_merge"]


def test_directions_by_ring():
    ledger = ContactSimulator(ENGINE)
    for at, name in (
        (0, "Home"),
        (HOUR, "Product Viewed"),
        (2 * HOUR, "Order Completed"),
        (3 * HOUR, "Order Completed"),
    ):
        ledger.arrive(occurrence(at, name))
    assert [c.direction for c in ledger.published] == ["entry", "advance", "advance", "repeat"]
    skip = change_direction(ENGINE, ledger.published[0].after, ledger.published[2].after)
    assert skip == "skip"
