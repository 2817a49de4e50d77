"""Maturity levels: each requires the previous ones, and only plays with enrollments count."""

import pytest

from services.orchestrator.domain.conversion_rate import wilson_rate
from services.orchestrator.domain.maturity import PlayUsage, assess_maturity
from tests.unit.orchestrator.builders import compiled_play, email_action

UNSUBSCRIBE = "t {{ unsubscribe_url }}"


def play_usage(
    steps=None,
    *,
    entered=10,
    reached=1,
    held_out=0,
    text=UNSUBSCRIBE,
    subject="Hi {{ contact.name }}",
    **more,
):
    message = email_action(mail={"subject": subject, "text": text})
    return PlayUsage(compiled_play(steps or [message], **more).play, entered, reached, held_out)


SCHEDULE = {"schedule": "2026-12-01T09:00:00Z"}
BROADCAST = play_usage(trigger=SCHEDULE, kind="broadcast")
TARGETED = play_usage(trigger=SCHEDULE, entry={"trait": "country", "equals": "FR"}, kind="segment")
GOAL = {"signal": "order_completed", "within": "30d"}
AUTOMATED = play_usage(trigger={"stage_change": {"to": "lead"}}, goal=GOAL)
CONTENT_ACTION = email_action(
    "chosen",
    content={"types": ["guide"]},
    mail={"subject": "{{ content.title }}", "text": UNSUBSCRIBE},
)
BEHAVIOURAL = play_usage(
    [CONTENT_ACTION], goal=GOAL, holdout=0.1, held_out=3, entry={"seen": "quote_requested"}
)


@pytest.mark.parametrize(
    ("plays", "consents", "level"),
    [
        ([], 9, 0),
        ([BROADCAST], 0, 0),
        ([BROADCAST], 9, 1),
        ([play_usage(trigger=SCHEDULE, text="no way out")], 9, 0),
        ([play_usage(trigger=SCHEDULE, subject="Hello")], 9, 0),
        ([BROADCAST, TARGETED], 9, 2),
        ([BROADCAST, AUTOMATED], 9, 1),
        ([BROADCAST, TARGETED, AUTOMATED], 9, 3),
        ([BROADCAST, TARGETED, AUTOMATED, BEHAVIOURAL], 9, 4),
    ],
)
@pytest.mark.capability(43)
def test_level_follows_plays_with_enrollments(plays, consents, level):
    assessment = assess_maturity(plays, consents)

    assert assessment.level == level
    assert bool(assessment.missing) is (level < 4)


@pytest.mark.capability(44)
def test_empty_plays_do_not_count_and_gaps_warn():
    empty = play_usage(trigger=SCHEDULE, entry={"stage": "lead"}, entered=0)

    assert assess_maturity([BROADCAST, empty], 9).level == 1
    assert assess_maturity([BROADCAST, AUTOMATED], 9).ahead == ["test"]
    assert (
        "give a play an `entry` or a segment as its trigger"
        in assess_maturity([BROADCAST, AUTOMATED], 9).missing
    )


@pytest.mark.capability(3)
def test_rates_are_grouped_by_broadcast_and_conversation():
    broadcast = play_usage(trigger=SCHEDULE, kind="broadcast", goal=GOAL, entered=1_000, reached=20)

    rates = {rate.group: rate for rate in assess_maturity([broadcast, AUTOMATED], 9).rates}

    assert (rates["broadcast"].rate, rates["conversation"].rate) == (0.02, 0.1)
    assert (
        rates["conversation"].high - rates["conversation"].low
        > rates["broadcast"].high - rates["broadcast"].low
    )


def test_wilson_interval_contains_rate_and_narrows():
    assert wilson_rate("x", 0, 0).high == 1.0

    few, many = wilson_rate("x", 10, 1), wilson_rate("x", 1_000, 100)

    assert few.low < 0.1 < few.high
    assert many.high - many.low < few.high - few.low
    assert (round(many.low, 4), round(many.high, 4)) == (0.0829, 0.1202)
