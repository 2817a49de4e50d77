"""Waits until a local time, in the time zone of the contact."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.orchestrator.domain.enrollment import (
    advance_enrollment,
)
from tests.unit.orchestrator.builders import (
    START,
    action_names,
    compiled_play,
    contact_facts,
    email_action,
    enrollment,
)

DECEMBER = int(datetime(2027, 12, 1, tzinfo=UTC).timestamp()) * 1_000_000


@pytest.mark.parametrize(
    ("zone", "local_time", "expected"),
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
        ),  # 02:30 does not exist
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
def test_local_time_uses_contact_time_zone(zone, local_time, expected):
    play = compiled_play([{"wait_until": local_time}, email_action()])
    facts = contact_facts(traits={"timezone": zone})
    expected_at = int(datetime.fromisoformat(expected).timestamp() * 1_000_000)

    due_at = advance_enrollment(play, enrollment(), facts, START).enrollment.due_at

    assert due_at == expected_at or (expected_at == START and due_at is None)
    assert action_names(advance_enrollment(play, enrollment(), facts, expected_at)) == ["mail"]


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
def test_local_time_is_reached_on_its_day(now, zone, clock, days):
    """The instants include both clock changes, the leap day of 2028 and the extreme offsets."""
    local_time = {"time": clock.isoformat(), **({"days": days} if days < 366 else {})}
    play = compiled_play([{"wait_until": local_time}, email_action()])

    progress = advance_enrollment(
        play,
        enrollment(entered_at=now, since=now, due_at=now),
        contact_facts(traits={"timezone": zone}),
        now,
    )

    due_at = progress.enrollment.due_at if progress.enrollment.status == "active" else now
    local = datetime.fromtimestamp(due_at / 1_000_000, ZoneInfo(zone))
    started = datetime.fromtimestamp(now / 1_000_000, ZoneInfo(zone))

    assert due_at >= now
    shifted = {(local.hour * 60 + local.minute - clock.hour * 60 - clock.minute) % 1440}
    assert shifted <= {0, 30, 60}, "only a time skipped by the change to summer time is shifted"
    extra_days = (local.date() - started.date()).days - local_time.get("days", 0)
    assert extra_days in (0, 1)
    if extra_days:
        assert (
            (started.hour, started.minute) >= (clock.hour, clock.minute)
            if not local_time.get("days")
            else False
        )
