"""What a simulation says is what a live run of the same data did."""

import random
from collections import Counter

import pytest

from libs.common.db import published_messages
from libs.common.db.connection import connect
from libs.common.instants import to_iso
from services.orchestrator.domain.gate import GateRules
from services.orchestrator.handlers.simulation_runner import run_simulation
from tests.integration.plays.play_texts import mail, play
from tests.support.orchestrator import Orchestrator
from tests.support.progress import choose_seed
from tests.support.scoring import Scoring
from tests.support.touchpoints import DAY, HOUR, START, identify, touchpoint

NAMES = [
    "Content Downloaded",
    "Pricing",
    "Quote Requested",
    "Order Completed",
    "Complaint Received",
    "Newsletter Subscribed",
]
RULES = GateRules(cap_per_day=1, cap_per_week=2)
LOYAL = {"axis": "buying", "at_least": "loyalty"}
TEXT = play(
    [
        mail("first"),
        {
            "wait_until": {"signal": "order_completed", "timeout": "3d"},
            "timed_out": [mail("reminder"), {"exit": "no order"}],
        },
        {"wait": "12h"},
        {
            "branch": [
                {"when": {"axis": "buying", "at_least": "loyalty"}, "steps": [mail("loyal")]}
            ],
            "otherwise": [mail("thanks")],
        },
        {"wait": "2d"},
        mail("last"),
    ],
    "quote",
    trigger={"signal": "quote_requested"},
    entry={"not": {"seen": "complaint", "within": "5d"}},
    exits=[{"signal": "complaint"}, {"stage_change": {"direction": "dormancy"}}],
    goal={"signal": "order_completed", "within": "4d", "ends": False},
    re_entry="after_exit",
    cool_down="2d",
    holdout=0.2,
)


def life(chance, user, hours=1, **more):
    """A month of somebody's life."""
    moments = sorted(chance.sample(range(hours, 30 * 24, hours), 14))
    traits = {"email": f"{user}@x.test", **more}
    found = [
        identify(
            0,
            number=f"{user}-i",
            user_id=user,
            anonymous_id=None,
            consent={"marketing": True},
            traits=traits,
        )
    ]
    for number, hour in enumerate(moments):
        found.append(
            touchpoint(hour * HOUR, chance.choice(NAMES), number=f"{user}-{number}", user_id=user)
        )
    return found


async def wait_for(orchestrator, until):
    """Let everything happen that is due before an instant, when it is due."""
    while True:
        rows = await orchestrator.fetch(
            "SELECT min(due_at) FROM (SELECT due_at FROM orchestrator.enrollments WHERE status = 'active' "
            "UNION ALL SELECT due_at FROM orchestrator.actions WHERE status IN ('pending', 'held')) d"
        )
        due = rows[0][0]
        if due is None or due >= until:
            return
        orchestrator.clock.instant = max(orchestrator.clock.instant, due)
        await orchestrator.run_due()


@pytest.mark.parametrize(
    "seed", [112_850, None], ids=["a wait that ends when somebody would enter again", "any"]
)
async def test_a_simulation_says_what_a_live_run_did(database, mailbox, seed):
    chance = random.Random(seed or choose_seed())
    orchestrator, scoring = Orchestrator(database, mailbox, RULES, None), Scoring(database)
    await orchestrator.install(shipped=False)
    await orchestrator.publish(TEXT)
    lives = sorted(
        (one for n in range(12) for one in life(chance, f"u{n}")), key=lambda one: one.key
    )
    orchestrator.clock.instant = START
    for one in lives:
        await wait_for(orchestrator, one.occurred_at)
        await scoring.ingest([one])
        await hear_all(orchestrator, scoring, one.occurred_at)
    end = START + 40 * DAY
    await wait_for(orchestrator, end)
    connection = await connect(database, application="test")
    found = await run_simulation(
        connection, "default", TEXT, "test", RULES, (START, end), lambda _: None
    )
    await connection.close()
    would = sorted((h.contact_id, h.step, h.what) for h in found.happened if h.step)
    did = sorted(
        await orchestrator.fetch("SELECT contact_id, step, status FROM orchestrator.actions")
    )
    assert would == did
    runs = await orchestrator.fetch(
        "SELECT contact_id, status = 'holdout', goal_at FROM orchestrator.enrollments"
    )
    entered = sorted(
        (h.contact_id, h.what == "held out")
        for h in found.happened
        if h.what in ("entered", "held out")
    )
    assert entered == sorted(r[:2] for r in runs)
    goals = sorted((h.contact_id, h.at) for h in found.happened if h.what == "reached the goal")
    assert goals == sorted((r[0], r[2]) for r in runs if r[2] is not None)
    counts = {
        what: sum(h.what == what for h in found.happened)
        for what in ("entered", "sent", "capped", "skipped")
    }
    print(counts)
    assert counts["entered"] > 5
    assert counts["sent"] > 5
    await orchestrator.close()
    await scoring.close()


MILD = GateRules(cap_per_day=100, cap_per_week=100)
LOOK = 3
"""Hours between two looks at everybody; people do things at every other one, and no moment comes together with what they do."""
MOMENTS = {
    "silence": {"silence": {"of": "order_completed", "for": "99h"}},
    "date": {"date": {"trait": "renewal", "before": "3d"}},
    "schedule": {"schedule": to_iso(START + 20 * DAY + LOOK * HOUR)},
    "segment": {"segment": "fresh"},
}


@pytest.mark.parametrize("kind", sorted(MOMENTS))
async def test_a_simulation_of_moments_says_who_entered_and_what_went_out(database, mailbox, kind):
    chance = random.Random(choose_seed())
    orchestrator, scoring = Orchestrator(database, mailbox, MILD, None), Scoring(database)
    await orchestrator.install(shipped=False)
    segment = "segment: fresh\nwhen: {seen: order_completed, within: 75h}"
    await orchestrator.definitions.define("default", "segment", segment, "test", "fresh.yaml")
    text = play(
        [mail(), {"wait": "36h"}, mail("second")], "moment", trigger=MOMENTS[kind], max_age="2d"
    )
    await orchestrator.publish(text)
    lives = [
        one
        for n in range(8)
        for one in life(chance, f"u{n}", 2 * LOOK, renewal=to_iso(START + (9 + n) * DAY)[:10])
    ]
    waiting = sorted(lives, key=lambda one: one.key)
    orchestrator.clock.instant = START
    for hour in range(0, 34 * 24, LOOK):
        now = START + hour * HOUR
        while waiting and waiting[0].occurred_at <= now:
            one = waiting.pop(0)
            await scoring.ingest([one])
            await hear_all(orchestrator, scoring, now)
        await orchestrator.sweep_at(now)
    connection = await connect(database, application="test")
    found = await run_simulation(
        connection, "default", text, "test", MILD, (START, now + 1), lambda _: None
    )
    await connection.close()
    would = Counter((h.contact_id, h.step, h.what) for h in found.happened if h.step)
    rows = await orchestrator.fetch("SELECT contact_id, step, status FROM orchestrator.actions")
    assert would == Counter(rows)
    assert sum(would.values()) >= 8, would
    await orchestrator.close()
    await scoring.close()


async def hear_all(orchestrator, scoring, now):
    """Publish what waits, as relays do, and let the orchestrator hear it at once."""
    rows = await scoring.fetch("SELECT id, topic, value FROM scoring.outbox ORDER BY id")
    connection = await connect(orchestrator.database, application="test")
    await published_messages.insert_from_outbox(
        connection, "scoring", [r[0] for r in rows], ["stage-changes", "signals"]
    )
    await connection.close()
    orchestrator.clock.instant = now
    for topic in ("stage-changes", "signals"):
        values = [value for _, name, value in rows if name == topic]
        if values:
            await orchestrator.consume(values, topic)
    await orchestrator.run_due()
