"""Corrections on a real PostgreSQL: bots, excluded touchpoints, manual stages, state snapshots."""

import random

import pytest

from libs.common.errors import Conflict, NotFound
from services.scoring.domain.state_snapshot import retained_counts
from services.scoring.handlers.identities import Author
from tests.support.scoring import assert_replay_equal
from tests.support.touchpoints import DAY, HOUR, START, identify, touchpoint

ME = Author("tester", "a note")


async def stages(scoring):
    return [(c["stage"]["to"], c["reason"]) for c in await scoring.outbox("stage-changes")]


async def test_bot_and_human_corrections_cancel_out(scoring):
    await scoring.ingest(
        [touchpoint(0, "Order Completed", user_id="u"), touchpoint(HOUR, user_id="u")]
    )
    before = await scoring.pure_rows()

    assert await scoring.corrections.correct_touchpoints("default", "u", "bot", [], ME) == 2

    await scoring.run_jobs()
    await assert_replay_equal(scoring)
    assert (await stages(scoring))[-1] == ("visitor", "corrected")

    await scoring.corrections.correct_touchpoints("default", "u", "human", [], ME)
    await scoring.run_jobs()

    assert await scoring.pure_rows() == before
    assert (await stages(scoring))[-1][1] == "corrected"


async def test_excluded_touchpoint_does_not_count(scoring):
    await scoring.ingest(
        [
            touchpoint(0, number=1, user_id="u"),
            touchpoint(HOUR, "Order Completed", number=2, user_id="u"),
        ]
    )
    await scoring.corrections.correct_touchpoints("default", "u", "exclude", ["m2"], ME)
    await scoring.run_jobs()

    await assert_replay_equal(scoring)

    assert (await stages(scoring))[-1][1] == "corrected"

    await scoring.corrections.correct_touchpoints("default", "u", "exclude", ["m1"], ME)
    await scoring.run_jobs()
    await assert_replay_equal(scoring)
    assert not await scoring.fetch("SELECT 1 FROM scoring.contact_states")

    await scoring.corrections.correct_touchpoints("default", "u", "include", [], ME)
    await scoring.run_jobs()
    await assert_replay_equal(scoring)

    with pytest.raises(NotFound, match="m77"):
        await scoring.corrections.correct_touchpoints("default", "u", "exclude", ["m77"], ME)


async def test_excluded_login_releases_device_and_traits(scoring):
    await scoring.ingest(
        [touchpoint(0, number=1), identify(HOUR, traits={"email": "u@x.test"}, number=2)]
    )
    await scoring.ingest([touchpoint(2 * HOUR, number=3, user_id="u")])
    before = await scoring.pure_rows()
    await scoring.corrections.correct_touchpoints("default", "u", "exclude", ["m2"], ME)
    await scoring.run_jobs()

    rows = await scoring.fetch(
        "SELECT message_id, contact_id FROM scoring.touchpoints WHERE message_id <> 'm2'"
    )

    assert len({r[1] for r in rows}) == 2
    assert (
        await scoring.fetch("SELECT 1 FROM scoring.contacts WHERE profile LIKE '%u@x.test%'") == []
    )

    await assert_replay_equal(scoring)
    await scoring.corrections.correct_touchpoints("default", "u", "include", ["m2"], ME)
    await scoring.run_jobs()

    assert await scoring.pure_rows() == before

    await assert_replay_equal(scoring)


async def test_excluded_link_separates_two_contacts(scoring):
    crm = {"trust": "server", "external_ids": {"crm": "7"}}
    await scoring.ingest(
        [touchpoint(0, number=1, user_id="u", **crm), touchpoint(0, number=2, user_id="v")]
    )
    await scoring.ingest([touchpoint(HOUR, number=3, user_id="v", **crm)])

    await scoring.run_jobs()

    assert (
        len({r[0] for r in await scoring.fetch("SELECT contact_id FROM scoring.touchpoints")}) == 1
    )

    await scoring.corrections.correct_touchpoints("default", "v", "exclude", ["m3"], ME)
    await scoring.run_jobs()

    assert (
        len({r[0] for r in await scoring.fetch("SELECT contact_id FROM scoring.touchpoints")}) == 2
    )

    await assert_replay_equal(scoring)


async def test_manual_stage_lasts_until_its_end(scoring):
    await scoring.ingest([touchpoint(0, number=1, user_id="u")])
    until = START + 10 * DAY
    await scoring.corrections.set_stage(
        "default", "u", "engagement", {"sales": "qualified"}, START + DAY, until, ME
    )
    await scoring.run_jobs()
    await assert_replay_equal(scoring)

    (change,) = (await scoring.outbox("stage-changes"))[1:]

    assert (change["reason"], change["cause"]["kind"], change["axes"]["sales"]["to"]) == (
        "corrected", "correction", "qualified",
    )  # fmt: skip

    await scoring.ingest([touchpoint(2 * DAY, number=2, user_id="u")])
    await assert_replay_equal(scoring)
    await scoring.set_frontier(until)
    await scoring.run_jobs()

    assert (await scoring.outbox("stage-changes"))[-1]["axes"]["sales"]["from"] == "qualified"

    await assert_replay_equal(scoring, until)


async def test_manual_stage_follows_merge_and_unmerge(scoring):
    await scoring.ingest(
        [touchpoint(0, number=1, user_id="u"), touchpoint(HOUR, number=2, user_id="v")]
    )
    await scoring.corrections.set_stage(
        "default", "v", "engagement", {"sales": "qualified"}, START + DAY, START + 99 * DAY, ME
    )
    await scoring.run_jobs()
    before = await scoring.pure_rows()
    await scoring.merge("u", "v")
    await assert_replay_equal(scoring)

    await scoring.unmerge("u", "v")

    assert await scoring.pure_rows() == before

    await assert_replay_equal(scoring)


async def test_invalid_manual_stage_is_refused(scoring):
    await scoring.ingest([touchpoint(0, anonymous_id="a"), touchpoint(0, number=2, user_id="u")])

    with pytest.raises(NotFound, match="no stage 'nowhere' on sales"):
        await scoring.corrections.set_stage(
            "default", "u", "engagement", {"sales": "nowhere"}, START, START, ME
        )
    with pytest.raises(NotFound, match="no cycle"):
        await scoring.corrections.set_stage("default", "u", "elsewhere", {}, START, START, ME)
    with pytest.raises(Conflict, match="identify the contact"):
        await scoring.corrections.set_stage(
            "default", "a", "engagement", {"sales": "qualified"}, START, START, ME
        )
    with pytest.raises(Conflict, match="in the future"):
        await scoring.corrections.set_stage(
            "default", "u", "engagement", {"sales": "qualified"}, 1 << 52, 1 << 52, ME
        )


@pytest.mark.parametrize("seed", range(4))
async def test_late_touchpoint_refolds_from_snapshot(scoring, seed):
    chance = random.Random(seed)
    names = ("Content Downloaded", "Product Viewed", "Order Completed", "Pricing Viewed")
    trace = [touchpoint(n * HOUR, chance.choice(names), number=n, user_id="u") for n in range(300)]
    for moved in trace:
        if chance.random() < 0.1:
            at = trace.index(moved)
            trace[at], trace[min(299, at + chance.randrange(1, 60))] = (
                trace[min(299, at + 5)],
                moved,
            )
    arrivals = list({t.message_id: t for t in trace}.values())
    while arrivals:
        size = chance.randrange(1, 12)
        await scoring.ingest(arrivals[:size])
        arrivals = arrivals[size:]
    await assert_replay_equal(scoring)
    rows = await scoring.fetch("SELECT count FROM scoring.checkpoints ORDER BY count")
    ((count,),) = await scoring.fetch("SELECT count(*) FROM scoring.touchpoints")

    snapshot_counts = {r[0] for r in rows}

    assert snapshot_counts <= retained_counts(count)
    assert len(snapshot_counts) >= 4, "too few snapshots were written"
    assert len(snapshot_counts) <= 10
