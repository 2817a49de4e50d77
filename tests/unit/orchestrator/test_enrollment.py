"""How an enrollment goes on: waits, hopes, forks, splits, exits, goals. No clock, no database."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.orchestrator.domain.enrollment import (
    ACTION_GRACE,
    Enrollment,
    action_priority,
    advance_enrollment,
    goal_reached_at,
)
from services.orchestrator.domain.enrollment_entry import (
    PastEnrollment,
    concerns_enrollment,
    event_starts_play,
    exit_reason_from_events,
    try_enroll,
)
from services.orchestrator.domain.entry_cause import cause_from_event, cause_if_due
from tests.unit.orchestrator.vocabulary import DAY, HOUR, change, contact, mail, program, signal

DECEMBER = int(datetime(2027, 12, 1, tzinfo=UTC).timestamp()) * 1_000_000
START = int(datetime(2026, 3, 27, 12, tzinfo=UTC).timestamp()) * 1_000_000


def run(**fields):
    base = {"cause": "cause", "entered_at": START, "since": START, "due_at": START}
    return Enrollment("e", "default", "c", "test", 1, **{**base, **fields})


def names(progress):
    return [action.action for action, _ in progress.due_actions]


def test_steps_act_at_once_until_one_waits_and_waits_do_not_drift():
    found = program([mail("a"), {"wait": "2d"}, mail("b"), {"wait": "1h"}, mail("c")])
    first = advance_enrollment(found, run(), contact(), START + 5)
    assert (names(first), first.enrollment.due_at, first.enrollment.status) == (
        ["a"],
        START + 2 * DAY,
        "active",
    )
    again = advance_enrollment(found, first.enrollment, contact(), START + 2 * DAY - 1)
    assert (names(again), again.enrollment) == ([], first.enrollment)
    second = advance_enrollment(found, first.enrollment, contact(), START + 2 * DAY + 7_000_000)
    assert (names(second), second.enrollment.due_at) == (["b"], START + 2 * DAY + HOUR)
    last = advance_enrollment(found, second.enrollment, contact(), START + 3 * DAY)
    assert (names(last), last.enrollment.status, last.enrollment.due_at) == (
        ["c"],
        "completed",
        None,
    )


def test_after_an_outage_waits_count_from_now_so_that_mails_keep_their_distance():
    found = program([{"wait": "1d"}, mail("a"), {"wait": "1d"}, mail("b")])
    late = START + DAY + ACTION_GRACE + 1
    progress = advance_enrollment(found, run(), contact(), late)
    assert (names(progress), progress.enrollment.due_at) == (["a"], late + DAY)


@pytest.mark.parametrize(
    ("zone", "wanted", "expected"),
    [
        ("Europe/Paris", {"time": "09:30"}, "2026-03-28T09:30:00+01:00"),
        (
            "Europe/Paris",
            {"time": "09:30", "days": 2},
            "2026-03-29T09:30:00+02:00",
        ),  # the night is an hour shorter
        (
            "Europe/Paris",
            {"time": "02:30", "days": 2},
            "2026-03-29T03:30:00+02:00",
        ),  # there is no half past two
        ("Europe/Paris", {"time": "13:00"}, "2026-03-27T13:00:00+01:00"),
        (
            "Europe/Paris",
            {"time": "14:00", "weekdays": ["mon", "tue"]},
            "2026-03-30T14:00:00+02:00",
        ),
        ("Etc/GMT+12", {"time": "00:00"}, "2026-03-27T00:00:00-12:00"),
        ("Etc/GMT-14", {"time": "00:00"}, "2026-03-29T00:00:00+14:00"),
        ("Pacific/Kiritimati", {"time": "02:00", "days": 1}, "2026-03-29T02:00:00+14:00"),
        ("Europe/Paris", {"time": "23:30", "days": 1}, "2026-03-28T23:30:00+01:00"),
        ("Europe/Paris", {"time": "00:15", "days": 2}, "2026-03-29T00:15:00+01:00"),
        ("Nowhere/Land", {"time": "08:00"}, "2026-03-28T08:00:00+00:00"),
    ],
)
def test_a_local_time_is_the_contacts_own(zone, wanted, expected):
    found = program([{"wait_until": wanted}, mail()])
    facts = contact(traits={"timezone": zone})
    due = advance_enrollment(found, run(), facts, START).enrollment.due_at
    moment = int(datetime.fromisoformat(expected).timestamp() * 1_000_000)
    assert due == moment or (moment == START and due is None)
    assert names(advance_enrollment(found, run(), facts, moment)) == ["mail"]


@given(
    st.integers(0, 800 * 24 * 60).map(lambda minutes: DECEMBER + minutes * 60_000_000),
    st.sampled_from(
        [
            "Europe/Paris",
            "America/New_York",
            "Etc/GMT+12",
            "Etc/GMT-14",
            "Australia/Lord_Howe",
            "UTC",
        ]
    ),
    st.times().map(lambda moment: moment.replace(microsecond=0, second=0, tzinfo=None)),
    st.integers(0, 400),
)
def test_a_local_time_comes_on_the_day_and_not_before(now, zone, clock, days):
    """Over both changes of the clock, the leap day of 2028 and every offset there is."""
    wanted = {"time": clock.isoformat(), **({"days": days} if days < 366 else {})}
    found = program([{"wait_until": wanted}, mail()])
    progress = advance_enrollment(
        found, run(entered_at=now, since=now, due_at=now), contact(traits={"timezone": zone}), now
    )
    due = progress.enrollment.due_at if progress.enrollment.status == "active" else now
    local = datetime.fromtimestamp(due / 1_000_000, ZoneInfo(zone))
    begun = datetime.fromtimestamp(now / 1_000_000, ZoneInfo(zone))
    assert due >= now
    shifted = {(local.hour * 60 + local.minute - clock.hour * 60 - clock.minute) % 1440}
    assert shifted <= {0, 30, 60}, "only a time that the change to summer leaves out is another"
    apart = (local.date() - begun.date()).days - wanted.get("days", 0)
    assert apart in (0, 1)
    if apart:
        assert (
            (begun.hour, begun.minute) >= (clock.hour, clock.minute)
            if not wanted.get("days")
            else False
        )


def test_a_hope_is_met_or_late():
    steps = [
        {
            "wait_until": {"signal": "order_completed", "timeout": "3d"},
            "timed_out": [mail("reminder")],
        },
        mail("last"),
    ]
    found = program(steps)
    waits = advance_enrollment(found, run(), contact(), START)
    assert waits.enrollment.due_at == START + 3 * DAY
    met = advance_enrollment(
        found,
        waits.enrollment,
        contact(signals={"order_completed": [START + DAY]}),
        START + DAY + 1,
    )
    assert names(met) == ["last"]
    late = advance_enrollment(
        found, waits.enrollment, contact(signals={"order_completed": [START - 1]}), START + 3 * DAY
    )
    assert names(late) == ["reminder", "last"]


def test_a_condition_is_waited_for_until_it_may_have_changed():
    steps = [{"wait_until": {"when": {"score": "intent", "below": 4}, "timeout": "30d"}}, mail()]
    found, facts = program(steps), contact(scores={"intent": 8.0}, at=START)
    waits = advance_enrollment(found, run(), facts, START)
    assert waits.enrollment.due_at is not None
    assert abs(waits.enrollment.due_at - (START + 7 * DAY)) <= 1
    assert names(advance_enrollment(found, waits.enrollment, facts, START + 7 * DAY + 1)) == [
        "mail"
    ]


@pytest.mark.parametrize(
    ("country", "expected"),
    [("FR", ["fr", "end"]), ("DE", ["de", "end"]), ("IT", ["other", "end"])],
)
def test_a_fork_takes_the_first_case_that_holds(country, expected):
    steps = [
        {"branch": [{"when": {"trait": "country", "equals": "FR"}, "steps": [mail("fr")]},
                    {"when": {"trait": "country", "one_of": ["DE", "FR"]}, "steps": [mail("de")]}],
         "otherwise": [mail("other")]},
        mail("end"),
    ]  # fmt: skip
    assert (
        names(
            advance_enrollment(program(steps), run(), contact(traits={"country": country}), START)
        )
        == expected
    )


def test_a_split_is_stable_and_about_as_large_as_asked():
    found = program(
        [
            {
                "split": {
                    "a": {"share": 0.3, "steps": [mail("a")]},
                    "b": {"share": 0.2, "steps": [mail("b")]},
                }
            },
            mail("end"),
        ]
    )
    drawn = [
        tuple(names(advance_enrollment(found, run(), contact(f"c{n}"), START)))
        for n in range(4_000)
    ]
    assert drawn == [
        tuple(names(advance_enrollment(found, run(), contact(f"c{n}"), START)))
        for n in range(4_000)
    ]
    counts = [drawn.count(one) / 4_000 for one in (("a", "end"), ("b", "end"), ("end",))]
    assert counts == pytest.approx([0.3, 0.2, 0.5], abs=0.03)


def test_an_exit_is_seen_before_the_next_step_acts():
    found = program(
        [{"wait": "1d"}, mail()],
        exits=[
            {"signal": "order_completed"},
            {"when": {"axis": "buying", "below": "investigation"}},
        ],
    )
    waits = advance_enrollment(found, run(), contact(), START).enrollment
    bought = advance_enrollment(
        found, waits, contact(signals={"order_completed": [START + 1]}), START + DAY
    )
    assert (names(bought), bought.enrollment.status, bought.enrollment.reason) == (
        [],
        "exited",
        "exit: order_completed",
    )
    before = advance_enrollment(
        found, waits, contact(signals={"order_completed": [START - 1]}), START + DAY
    )
    assert names(before) == ["mail"]
    facts = contact()
    back = msgspec.structs.replace(
        facts.standings["engagement"], axes={"buying": "awareness", "sales": "unknown"}
    )
    fell = advance_enrollment(
        found, waits, msgspec.structs.replace(facts, standings={"engagement": back}), START + DAY
    )
    assert (names(fell), fell.enrollment.status) == ([], "exited")


def test_a_goal_ends_the_run_and_counts_within_its_window_alone():
    found = program([{"wait": "9d"}, mail()], goal={"signal": "order_completed", "within": "5d"})
    goal = found.play.goal
    in_time, late = (contact(signals={"order_completed": [START + days * DAY]}) for days in (4, 6))
    assert goal_reached_at(found, goal, run(), in_time, START + 9 * DAY) == START + 4 * DAY
    assert goal_reached_at(found, goal, run(), late, START + 9 * DAY) is None
    assert (
        advance_enrollment(found, run(), in_time, START + 5 * DAY).enrollment.reason
        == "goal reached"
    )
    assert names(advance_enrollment(found, run(), late, START + 9 * DAY)) == ["mail"]


def test_a_step_may_end_it():
    progress = advance_enrollment(
        program([mail("a"), {"exit": "enough"}, mail("b")]), run(), contact(), START
    )
    assert (names(progress), progress.enrollment.status, progress.enrollment.reason) == (
        ["a"],
        "completed",
        "enough",
    )


@pytest.mark.parametrize(
    ("more", "earlier", "entered"),
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
def test_who_enters(more, earlier, entered):
    found = try_enroll(
        program([mail()], **more),
        cause_from_event(signal(occurred_at=START)),
        contact(),
        earlier,
        START,
    )
    assert (
        found == entered
        if isinstance(entered, str)
        else (found.status, found.entered_at) == ("active", START)
    )


def test_who_is_held_out_enters_nothing_and_stays_so_over_versions():
    held = program([mail()], holdout=0.5, re_entry="always")
    groups = []
    for number in (1, 2):
        version = msgspec.structs.replace(held, number=number)
        runs = [
            try_enroll(
                version, cause_from_event(signal(id=f"s{number}-{n}")), contact(f"c{n}"), [], 0
            )
            for n in range(400)
        ]
        groups.append([one.status for one in runs])
    assert groups[0] == groups[1]
    assert 140 < groups[0].count("holdout") < 260


def test_history_and_what_is_old_start_nothing():
    found = program([mail()], max_age="1d")
    assert event_starts_play(found, signal(), DAY)
    assert not event_starts_play(found, signal(), DAY + 1)
    assert not event_starts_play(found, signal(historical=True), 0)
    assert not event_starts_play(found, signal(signal="complaint"), 0)
    assert not event_starts_play(found, change(), 0)


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
def test_a_move_starts_and_ends_for_ordinary_reasons_only(trigger, fields, expected):
    found = program([mail()], trigger={"stage_change": trigger}, exits=[{"stage_change": trigger}])
    assert event_starts_play(found, change(**fields), 0) is expected
    assert bool(exit_reason_from_events(found, run(entered_at=-1), [change(**fields)])) is expected
    assert not exit_reason_from_events(found, run(entered_at=1), [change(**fields)])
    assert not exit_reason_from_events(found, run(entered_at=-1, cause="s"), [change(**fields)])


def test_only_what_an_event_may_change_is_looked_at():
    plain = program([{"wait": "1d"}, mail()], goal={"signal": "order_completed", "within": "5d"})
    assert concerns_enrollment(plain, run(), [signal(signal="order_completed")])
    assert not concerns_enrollment(plain, run(), [signal(signal="complaint"), change()])
    hoping = program([{"wait_until": {"signal": "complaint", "timeout": "1d"}}, mail()])
    assert concerns_enrollment(hoping, run(), [signal(signal="complaint")])
    assert not concerns_enrollment(hoping, run(status="completed"), [signal(signal="complaint")])
    assert concerns_enrollment(
        program([mail()], exits=[{"when": {"stage": "customer"}}]), run(), [change()]
    )


@pytest.mark.parametrize(
    ("trigger", "facts", "at"),
    [
        ({"silence": {"for": "30d"}}, {"last_act": START}, START + 30 * DAY),
        ({"silence": {"for": "30d", "of": "order_completed"}}, {"signals": {"order_completed": [START]}}, START + 30 * DAY),
        ({"silence": {"for": "30d"}}, {}, None),
        ({"date": {"trait": "renewal", "before": "7d"}}, {"traits": {"renewal": "2026-04-10"}}, "2026-04-03T00:00:00+00:00"),
        ({"date": {"trait": "renewal"}}, {"traits": {"renewal": "2026-04-10T10:00:00Z"}}, "2026-04-10T10:00:00+00:00"),
        ({"date": {"trait": "renewal"}}, {"traits": {"renewal": "2026-04-10", "timezone": "Asia/Tokyo"}},
         "2026-04-10T00:00:00+09:00"),
        ({"date": {"trait": "renewal"}}, {"traits": {"renewal": "soon"}}, None),
        ({"date": {"trait": "renewal"}}, {"traits": {"renewal": 7}}, None),
        ({"date": {"trait": "renewal"}}, {}, None),
    ],
)  # fmt: skip
def test_a_moment_is_each_contacts_own_and_comes_once(trigger, facts, at):
    found, who = program([mail()], trigger=trigger, max_age="1d"), contact(**facts)
    if at is None:
        assert cause_if_due(found, "default", who, START + 90 * DAY) is None
        return
    moment = at if isinstance(at, int) else int(datetime.fromisoformat(at).timestamp()) * 1_000_000
    assert cause_if_due(found, "default", who, moment - 1) is None
    first, later = (cause_if_due(found, "default", who, moment + wait) for wait in (0, DAY))
    assert first == later
    assert first.at == moment
    assert cause_if_due(found, "default", who, moment + DAY + 1) is None, (
        "what is long ago starts nothing"
    )


@pytest.mark.parametrize(
    ("date", "days_before", "priority"),
    [
        (None, 0, 5), ("1970-03-01", 40, 5), ("1970-03-01", 30, 5), ("1970-03-01", 7, 28), ("1970-03-01", 0, 35),
        ("1970-03-01", -1, 5),
    ],
)  # fmt: skip
def test_the_nearer_the_date_of_a_compelling_event_the_sooner_goes_what_it_started(
    date, days_before, priority
):
    run = Enrollment("e", "default", "c", "p", 1, "cause", 0, {"event_id": "e", "date": date})
    due = 59 * DAY - days_before * DAY + HOUR
    assert action_priority(program([mail()], priority=5).play, run, due) == priority
    other = Enrollment("e", "default", "c", "p", 1, "cause", 0, {"date": date})
    assert action_priority(program([mail()], priority=5).play, other, due) == 5
