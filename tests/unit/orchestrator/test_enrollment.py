"""Enrollments advance through the steps of a play: waits, branches, splits, exits, goals."""

import msgspec
import pytest

from libs.common.instants import DAY, HOUR
from services.orchestrator.domain.enrollment import (
    ACTION_GRACE,
    action_priority,
    advance_enrollment,
    goal_reached_at,
)
from tests.unit.orchestrator.builders import (
    START,
    action_names,
    compiled_play,
    contact_facts,
    email_action,
    enrollment,
)


def test_waits_count_from_planned_times():
    play = compiled_play(
        [email_action("a"), {"wait": "2d"}, email_action("b"), {"wait": "1h"}, email_action("c")]
    )

    first = advance_enrollment(play, enrollment(), contact_facts(), START + 5)

    assert (action_names(first), first.enrollment.due_at, first.enrollment.status) == (
        ["a"],
        START + 2 * DAY,
        "active",
    )

    early = advance_enrollment(play, first.enrollment, contact_facts(), START + 2 * DAY - 1)

    assert (action_names(early), early.enrollment) == ([], first.enrollment)

    second = advance_enrollment(
        play, first.enrollment, contact_facts(), START + 2 * DAY + 7_000_000
    )

    assert (action_names(second), second.enrollment.due_at) == (["b"], START + 2 * DAY + HOUR)

    last = advance_enrollment(play, second.enrollment, contact_facts(), START + 3 * DAY)

    assert (action_names(last), last.enrollment.status, last.enrollment.due_at) == (
        ["c"],
        "completed",
        None,
    )


def test_waits_count_from_now_after_outage():
    play = compiled_play([{"wait": "1d"}, email_action("a"), {"wait": "1d"}, email_action("b")])
    late = START + DAY + ACTION_GRACE + 1

    progress = advance_enrollment(play, enrollment(), contact_facts(), late)

    assert (action_names(progress), progress.enrollment.due_at) == (["a"], late + DAY)


def test_signal_wait_is_met_or_times_out():
    steps = [
        {
            "wait_until": {"signal": "order_completed", "timeout": "3d"},
            "timed_out": [email_action("reminder")],
        },
        email_action("last"),
    ]
    play = compiled_play(steps)

    waiting = advance_enrollment(play, enrollment(), contact_facts(), START)

    assert waiting.enrollment.due_at == START + 3 * DAY

    met = advance_enrollment(
        play,
        waiting.enrollment,
        contact_facts(signals={"order_completed": [START + DAY]}),
        START + DAY + 1,
    )

    assert action_names(met) == ["last"]

    late = advance_enrollment(
        play,
        waiting.enrollment,
        contact_facts(signals={"order_completed": [START - 1]}),
        START + 3 * DAY,
    )

    assert action_names(late) == ["reminder", "last"]


def test_condition_wait_is_due_at_its_horizon():
    steps = [
        {"wait_until": {"when": {"score": "intent", "below": 4}, "timeout": "30d"}},
        email_action(),
    ]
    play, facts = compiled_play(steps), contact_facts(scores={"intent": 8.0}, at=START)

    waiting = advance_enrollment(play, enrollment(), facts, START)

    assert waiting.enrollment.due_at is not None
    assert abs(waiting.enrollment.due_at - (START + 7 * DAY)) <= 1
    assert action_names(
        advance_enrollment(play, waiting.enrollment, facts, START + 7 * DAY + 1)
    ) == ["mail"]


@pytest.mark.parametrize(
    ("country", "expected"),
    [("FR", ["fr", "end"]), ("DE", ["de", "end"]), ("IT", ["other", "end"])],
)
def test_branch_takes_first_true_case(country, expected):
    steps = [
        {
            "branch": [
                {"when": {"trait": "country", "equals": "FR"}, "steps": [email_action("fr")]},
                {
                    "when": {"trait": "country", "one_of": ["DE", "FR"]},
                    "steps": [email_action("de")],
                },
            ],
            "otherwise": [email_action("other")],
        },
        email_action("end"),
    ]
    facts = contact_facts(traits={"country": country})

    progress = advance_enrollment(compiled_play(steps), enrollment(), facts, START)

    assert action_names(progress) == expected


def test_split_is_stable_with_configured_shares():
    play = compiled_play(
        [
            {
                "split": {
                    "a": {"share": 0.3, "steps": [email_action("a")]},
                    "b": {"share": 0.2, "steps": [email_action("b")]},
                }
            },
            email_action("end"),
        ]
    )

    drawn = [
        tuple(action_names(advance_enrollment(play, enrollment(), contact_facts(f"c{n}"), START)))
        for n in range(4_000)
    ]

    assert drawn == [
        tuple(action_names(advance_enrollment(play, enrollment(), contact_facts(f"c{n}"), START)))
        for n in range(4_000)
    ]

    counts = [drawn.count(actions) / 4_000 for actions in (("a", "end"), ("b", "end"), ("end",))]

    assert counts == pytest.approx([0.3, 0.2, 0.5], abs=0.03)


def test_exit_is_checked_before_the_next_action():
    play = compiled_play(
        [{"wait": "1d"}, email_action()],
        exits=[
            {"signal": "order_completed"},
            {"when": {"axis": "buying", "below": "investigation"}},
        ],
    )
    waiting = advance_enrollment(play, enrollment(), contact_facts(), START).enrollment

    bought = advance_enrollment(
        play, waiting, contact_facts(signals={"order_completed": [START + 1]}), START + DAY
    )

    assert (action_names(bought), bought.enrollment.status, bought.enrollment.reason) == (
        [],
        "exited",
        "exit: order_completed",
    )

    before = advance_enrollment(
        play, waiting, contact_facts(signals={"order_completed": [START - 1]}), START + DAY
    )

    assert action_names(before) == ["mail"]

    facts = contact_facts()
    earlier_position = msgspec.structs.replace(
        facts.standings["engagement"], axes={"buying": "awareness", "sales": "unknown"}
    )
    regressed = advance_enrollment(
        play,
        waiting,
        msgspec.structs.replace(facts, standings={"engagement": earlier_position}),
        START + DAY,
    )

    assert (action_names(regressed), regressed.enrollment.status) == ([], "exited")


def test_goal_ends_enrollment_within_its_window():
    play = compiled_play(
        [{"wait": "9d"}, email_action()], goal={"signal": "order_completed", "within": "5d"}
    )
    goal = play.play.goal
    in_time, late = (
        contact_facts(signals={"order_completed": [START + days * DAY]}) for days in (4, 6)
    )

    assert goal_reached_at(play, goal, enrollment(), in_time, START + 9 * DAY) == START + 4 * DAY
    assert goal_reached_at(play, goal, enrollment(), late, START + 9 * DAY) is None
    assert (
        advance_enrollment(play, enrollment(), in_time, START + 5 * DAY).enrollment.reason
        == "goal reached"
    )
    assert action_names(advance_enrollment(play, enrollment(), late, START + 9 * DAY)) == ["mail"]


def test_exit_step_completes_enrollment():
    progress = advance_enrollment(
        compiled_play([email_action("a"), {"exit": "enough"}, email_action("b")]),
        enrollment(),
        contact_facts(),
        START,
    )

    assert (action_names(progress), progress.enrollment.status, progress.enrollment.reason) == (
        ["a"],
        "completed",
        "enough",
    )


@pytest.mark.parametrize(
    ("date", "days_before", "priority"),
    [
        (None, 0, 5),
        ("1970-03-01", 40, 5),
        ("1970-03-01", 30, 5),
        ("1970-03-01", 7, 28),
        ("1970-03-01", 0, 35),
        ("1970-03-01", -1, 5),
    ],
)
def test_priority_rises_towards_compelling_event_date(date, days_before, priority):
    play = compiled_play([email_action()], priority=5).play
    started_by_event = enrollment(event={"event_id": "e", "date": date})
    started_otherwise = enrollment(event={"date": date})
    due_at = 59 * DAY - days_before * DAY + HOUR

    assert action_priority(play, started_by_event, due_at) == priority
    assert action_priority(play, started_otherwise, due_at) == 5
