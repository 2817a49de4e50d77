"""A simulation predicts the decisions of a live run on the same data."""

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
    """Return the touchpoints of one contact in a month."""
    moments = sorted(chance.sample(range(hours, 30 * 24, hours), 14))
    traits = {"email": f"{user}@x.test", **more}
    touchpoints = [
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
        touchpoints.append(
            touchpoint(hour * HOUR, chance.choice(NAMES), number=f"{user}-{number}", user_id=user)
        )
    return touchpoints


async def run_until(orchestrator, scoring, until):
    """Run the timers of scoring and all due work before an instant, each when it is due."""
    while True:
        rows = await orchestrator.fetch(
            "SELECT min(due_at) FROM ("
            "SELECT due_at FROM scoring.timers UNION ALL "
            "SELECT due_at FROM orchestrator.enrollments WHERE status = 'active' UNION ALL "
            "SELECT due_at FROM orchestrator.actions WHERE status IN ('pending', 'held')) d"
        )
        due = rows[0][0]
        if due is None or due >= until:
            return
        now = max(orchestrator.clock.instant, due)
        await scoring.set_frontier(now)
        await scoring.run_jobs()
        await publish_and_consume(orchestrator, scoring, now)


@pytest.mark.parametrize(
    "seed", [112_850, 422_111, None], ids=["wait-ends-at-re-entry", "exit-as-a-wait-ends", "any"]
)
async def test_simulation_matches_live_run(database, mailbox, seed):
    chance = random.Random(seed or choose_seed())
    orchestrator, scoring = Orchestrator(database, mailbox, RULES, None), Scoring(database)
    await orchestrator.install(shipped=False)
    await orchestrator.publish(TEXT)
    events = sorted(
        (event for n in range(12) for event in life(chance, f"u{n}")), key=lambda event: event.key
    )
    orchestrator.clock.instant = START
    for event in events:
        await run_until(orchestrator, scoring, event.occurred_at)
        await scoring.ingest([event])
        await publish_and_consume(orchestrator, scoring, event.occurred_at)
    end = START + 40 * DAY
    await run_until(orchestrator, scoring, end)
    connection = await connect(database, application="test")
    simulation = await run_simulation(
        connection, "default", TEXT, "test", RULES, (START, end), lambda _: None
    )
    await connection.close()
    simulated_actions = sorted(
        (h.contact_id, h.step, h.what) for h in simulation.happened if h.step
    )

    actions = sorted(
        await orchestrator.fetch("SELECT contact_id, step, status FROM orchestrator.actions")
    )

    assert simulated_actions == actions

    runs = await orchestrator.fetch(
        "SELECT contact_id, status = 'holdout', goal_at FROM orchestrator.enrollments"
    )
    entered = sorted(
        (h.contact_id, h.what == "held out")
        for h in simulation.happened
        if h.what in ("entered", "held out")
    )
    assert entered == sorted(r[:2] for r in runs)

    goals = sorted(
        (h.contact_id, h.at) for h in simulation.happened if h.what == "reached the goal"
    )
    assert goals == sorted((r[0], r[2]) for r in runs if r[2] is not None)

    counts = {
        what: sum(h.what == what for h in simulation.happened)
        for what in ("entered", "sent", "capped", "skipped")
    }
    print(counts)

    assert counts["entered"] > 5
    assert counts["sent"] > 5

    await orchestrator.close()
    await scoring.close()


MILD = GateRules(cap_per_day=100, cap_per_week=100)
SWEEP_HOURS = 3
"""Hours between two sweeps. Touchpoints fall on every other sweep, and timed triggers do not."""
MOMENTS = {
    "silence": {"silence": {"of": "order_completed", "for": "99h"}},
    "date": {"date": {"trait": "renewal", "before": "3d"}},
    "schedule": {"schedule": to_iso(START + 20 * DAY + SWEEP_HOURS * HOUR)},
    "segment": {"segment": "fresh"},
}


@pytest.mark.parametrize("kind", sorted(MOMENTS))
async def test_simulation_of_timed_trigger_matches_live_run(database, mailbox, kind):
    chance = random.Random(choose_seed())
    orchestrator, scoring = Orchestrator(database, mailbox, MILD, None), Scoring(database)
    await orchestrator.install(shipped=False)
    segment = "segment: fresh\nwhen: {seen: order_completed, within: 75h}"
    await orchestrator.definitions.define("default", "segment", segment, "test", "fresh.yaml")
    text = play(
        [mail(), {"wait": "36h"}, mail("second")], "moment", trigger=MOMENTS[kind], max_age="2d"
    )
    await orchestrator.publish(text)
    events = [
        event
        for n in range(8)
        for event in life(
            chance, f"u{n}", 2 * SWEEP_HOURS, renewal=to_iso(START + (9 + n) * DAY)[:10]
        )
    ]
    waiting = sorted(events, key=lambda event: event.key)
    orchestrator.clock.instant = START
    for hour in range(0, 34 * 24, SWEEP_HOURS):
        now = START + hour * HOUR
        while waiting and waiting[0].occurred_at <= now:
            event = waiting.pop(0)
            await scoring.ingest([event])
            await publish_and_consume(orchestrator, scoring, now)
        await orchestrator.sweep_at(now)
    connection = await connect(database, application="test")
    simulation = await run_simulation(
        connection, "default", text, "test", MILD, (START, now + 1), lambda _: None
    )
    await connection.close()
    simulated_actions = Counter(
        (h.contact_id, h.step, h.what) for h in simulation.happened if h.step
    )

    rows = await orchestrator.fetch("SELECT contact_id, step, status FROM orchestrator.actions")

    assert simulated_actions == Counter(rows)
    assert sum(simulated_actions.values()) >= 8, simulated_actions

    await orchestrator.close()
    await scoring.close()


async def publish_and_consume(orchestrator, scoring, now):
    """Move scoring's outbox to the log, as relays do, and let the orchestrator consume it."""
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
