"""How far a workspace has come: each level wants those before it, and only what runs counts."""

import pytest

from services.orchestrator.domain.conversion_rate import wilson_rate
from services.orchestrator.domain.maturity import PlayUsage, assess_maturity
from tests.unit.orchestrator.vocabulary import mail, program

UNSUBSCRIBE = "t {{ unsubscribe_url }}"


def ran(
    steps=None,
    *,
    entered=10,
    reached=1,
    held_out=0,
    text=UNSUBSCRIBE,
    subject="Hi {{ contact.name }}",
    **more,
):
    letter = mail(mail={"subject": subject, "text": text})
    return PlayUsage(program(steps or [letter], **more).play, entered, reached, held_out)


SCHEDULE = {"schedule": "2026-12-01T09:00:00Z"}
BLAST = ran(trigger=SCHEDULE, kind="broadcast")
TARGETED = ran(trigger=SCHEDULE, entry={"trait": "country", "equals": "FR"}, kind="segment")
GOAL = {"signal": "order_completed", "within": "30d"}
AUTOMATED = ran(trigger={"stage_change": {"to": "lead"}}, goal=GOAL)
CHOSEN = mail(
    "chosen",
    content={"types": ["guide"]},
    mail={"subject": "{{ content.title }}", "text": UNSUBSCRIBE},
)
BEHAVIOURAL = ran([CHOSEN], goal=GOAL, holdout=0.1, held_out=3, entry={"seen": "quote_requested"})


@pytest.mark.parametrize(
    ("plays", "consents", "level"),
    [
        ([], 9, 0),
        ([BLAST], 0, 0),
        ([BLAST], 9, 1),
        ([ran(trigger=SCHEDULE, text="no way out")], 9, 0),
        ([ran(trigger=SCHEDULE, subject="Hello")], 9, 0),
        ([BLAST, TARGETED], 9, 2),
        ([BLAST, AUTOMATED], 9, 1),
        ([BLAST, TARGETED, AUTOMATED], 9, 3),
        ([BLAST, TARGETED, AUTOMATED, BEHAVIOURAL], 9, 4),
    ],
)
@pytest.mark.capability(43)
def test_the_level_is_that_of_what_runs(plays, consents, level):
    found = assess_maturity(plays, consents)
    assert found.level == level
    assert bool(found.missing) is (level < 4)


@pytest.mark.capability(44)
def test_what_nobody_is_in_counts_for_nothing_and_what_is_ahead_is_warned_of():
    idle = ran(trigger=SCHEDULE, entry={"stage": "lead"}, entered=0)
    assert assess_maturity([BLAST, idle], 9).level == 1
    assert assess_maturity([BLAST, AUTOMATED], 9).ahead == ["test"]
    assert (
        "give a play an `entry` or a segment as its trigger"
        in assess_maturity([BLAST, AUTOMATED], 9).missing
    )


@pytest.mark.capability(3)
def test_broadcasts_and_conversations_stand_beside_each_other():
    loud = ran(trigger=SCHEDULE, kind="broadcast", goal=GOAL, entered=1_000, reached=20)
    found = {one.group: one for one in assess_maturity([loud, AUTOMATED], 9).rates}
    assert (found["broadcast"].rate, found["conversation"].rate) == (0.02, 0.1)
    assert (
        found["conversation"].high - found["conversation"].low
        > found["broadcast"].high - found["broadcast"].low
    )


def test_an_interval_holds_its_rate_and_narrows():
    assert wilson_rate("x", 0, 0).high == 1.0
    few, many = wilson_rate("x", 10, 1), wilson_rate("x", 1_000, 100)
    assert few.low < 0.1 < few.high
    assert many.high - many.low < few.high - few.low
    assert (round(many.low, 4), round(many.high, 4)) == (0.0829, 0.1202)
