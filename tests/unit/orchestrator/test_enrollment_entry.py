"""Entry into plays: triggers, entry criteria, re-entry, holdout, and dated causes."""

from datetime import datetime

import msgspec
import pytest

from libs.common.instants import DAY
from services.orchestrator.domain.enrollment_entry import (
    PastEnrollment,
    concerns_enrollment,
    event_starts_play,
    exit_reason_from_events,
    try_enroll,
)
from services.orchestrator.domain.entry_cause import cause_from_event, cause_if_due
from tests.unit.orchestrator.builders import (
    START,
    compiled_play,
    contact_facts,
    email_action,
    enrollment,
    signal,
    stage_change,
)


@pytest.mark.parametrize(
    ("settings", "earlier", "expected"),
    [
        ({}, [], True),
        ({}, [PastEnrollment(0, "completed")], "entered before"),
        ({"re_entry": "always"}, [PastEnrollment(0, "active")], True),
        ({"re_entry": "after_exit"}, [PastEnrollment(0, "active")], "still in it"),
        ({"re_entry": "after_exit"}, [PastEnrollment(0, "exited")], True),
        (
            {"re_entry": "always", "cool_down": "2d"},
            [PastEnrollment(START - DAY, "exited")],
            "cooling down",
        ),
        (
            {"re_entry": "always", "cool_down": "2d"},
            [PastEnrollment(START - 2 * DAY, "exited")],
            True,
        ),
        ({"entry": {"stage": "customer"}}, [], "entry criteria"),
        ({"entry": {"stage": "lead"}}, [], True),
    ],
)
def test_entry_depends_on_criteria_and_past_enrollments(settings, earlier, expected):
    play = compiled_play([email_action()], **settings)
    cause = cause_from_event(signal(occurred_at=START))

    result = try_enroll(play, cause, contact_facts(), earlier, START)

    if isinstance(expected, str):
        assert result == expected
    else:
        assert (result.status, result.entered_at) == ("active", START)


def test_holdout_group_is_equal_in_all_versions():
    play = compiled_play([email_action()], holdout=0.5, re_entry="always")
    statuses = []

    for number in (1, 2):
        version = msgspec.structs.replace(play, number=number)
        enrollments = [
            try_enroll(
                version,
                cause_from_event(signal(id=f"s{number}-{n}")),
                contact_facts(f"c{n}"),
                [],
                0,
            )
            for n in range(400)
        ]
        statuses.append([entry.status for entry in enrollments])

    assert statuses[0] == statuses[1]
    assert 140 < statuses[0].count("holdout") < 260


def test_historical_and_old_signals_start_no_play():
    play = compiled_play([email_action()], max_age="1d")

    assert event_starts_play(play, signal(), DAY)
    assert not event_starts_play(play, signal(), DAY + 1)
    assert not event_starts_play(play, signal(historical=True), 0)
    assert not event_starts_play(play, signal(signal="complaint"), 0)
    assert not event_starts_play(play, stage_change(), 0)


@pytest.mark.parametrize(
    ("trigger", "fields", "expected"),
    [
        ({"direction": "regression"}, {}, True),
        ({"to": "visitor", "from": "lead"}, {}, True),
        ({"to": "customer"}, {}, False),
        ({"axis": "buying", "to": "awareness"}, {}, True),
        ({"axis": "buying", "to": "validation"}, {}, False),
        ({"axis": "sales"}, {}, False),
        ({"direction": "regression"}, {"reason": "history"}, False),
        ({"direction": "regression"}, {"reason": "corrected"}, False),
        ({"direction": "regression"}, {"reason": "touchpoint"}, True),
    ],
)
def test_only_live_stage_changes_start_or_end_plays(trigger, fields, expected):
    play = compiled_play(
        [email_action()], trigger={"stage_change": trigger}, exits=[{"stage_change": trigger}]
    )

    assert event_starts_play(play, stage_change(**fields), 0) is expected
    assert (
        bool(exit_reason_from_events(play, enrollment(entered_at=-1), [stage_change(**fields)]))
        is expected
    )
    assert not exit_reason_from_events(play, enrollment(entered_at=1), [stage_change(**fields)])
    assert not exit_reason_from_events(
        play, enrollment(entered_at=-1, cause="s"), [stage_change(**fields)]
    )


def test_event_concerns_enrollments_it_may_change():
    with_goal = compiled_play(
        [{"wait": "1d"}, email_action()], goal={"signal": "order_completed", "within": "5d"}
    )

    assert concerns_enrollment(with_goal, enrollment(), [signal(signal="order_completed")])
    assert not concerns_enrollment(
        with_goal, enrollment(), [signal(signal="complaint"), stage_change()]
    )

    with_signal_wait = compiled_play(
        [{"wait_until": {"signal": "complaint", "timeout": "1d"}}, email_action()]
    )

    assert concerns_enrollment(with_signal_wait, enrollment(), [signal(signal="complaint")])
    assert not concerns_enrollment(
        with_signal_wait, enrollment(status="completed"), [signal(signal="complaint")]
    )
    assert concerns_enrollment(
        compiled_play([email_action()], exits=[{"when": {"stage": "customer"}}]),
        enrollment(),
        [stage_change()],
    )


@pytest.mark.parametrize(
    ("trigger", "facts", "expected"),
    [
        ({"silence": {"for": "30d"}}, {"last_act": START}, START + 30 * DAY),
        (
            {"silence": {"for": "30d", "of": "order_completed"}},
            {"signals": {"order_completed": [START]}},
            START + 30 * DAY,
        ),
        ({"silence": {"for": "30d"}}, {}, None),
        (
            {"date": {"trait": "renewal", "before": "7d"}},
            {"traits": {"renewal": "2026-04-10"}},
            "2026-04-03T00:00:00+00:00",
        ),
        (
            {"date": {"trait": "renewal"}},
            {"traits": {"renewal": "2026-04-10T10:00:00Z"}},
            "2026-04-10T10:00:00+00:00",
        ),
        (
            {"date": {"trait": "renewal"}},
            {"traits": {"renewal": "2026-04-10", "timezone": "Asia/Tokyo"}},
            "2026-04-10T00:00:00+09:00",
        ),
        ({"date": {"trait": "renewal"}}, {"traits": {"renewal": "soon"}}, None),
        ({"date": {"trait": "renewal"}}, {"traits": {"renewal": 7}}, None),
        ({"date": {"trait": "renewal"}}, {}, None),
    ],
)
def test_due_cause_is_unique_to_contact_and_moment(trigger, facts, expected):
    play = compiled_play([email_action()], trigger=trigger, max_age="1d")
    contact = contact_facts(**facts)
    if expected is None:
        assert cause_if_due(play, "default", contact, START + 90 * DAY) is None
        return
    due_at = expected
    if isinstance(expected, str):
        due_at = int(datetime.fromisoformat(expected).timestamp()) * 1_000_000

    first, later = (cause_if_due(play, "default", contact, due_at + delay) for delay in (0, DAY))

    assert first == later
    assert first.at == due_at
    assert cause_if_due(play, "default", contact, due_at - 1) is None
    assert cause_if_due(play, "default", contact, due_at + DAY + 1) is None, (
        "a moment older than max_age starts nothing"
    )
