"""Concurrent changes to the identity of the same contacts; each case was a bug."""

import asyncio

import pytest

from cli.home import PROJECT
from libs.common.db.connection import connect
from services.scoring.domain.identity import new_contact_id
from services.scoring.handlers import (
    contact_resolution,
    corrections,
    identities,
    touchpoint_storage,
)
from services.scoring.handlers.identities import Author
from tests.support.scoring import Scoring, assert_replay_equal, contact_ids
from tests.support.touchpoints import DAY, HOUR, START, identify, small_cycle, touchpoint
from tests.support.waiting import wait_until

ME = Author("tester")
CRM = {"external_ids": {"crm": "7"}}


@pytest.fixture
async def scoring(database):
    service = Scoring(database, [small_cycle()])
    yield service
    await service.close()


@pytest.fixture
async def two_cycles(database):
    text = (PROJECT / "tests" / "support" / "small.yaml").read_text()
    service = Scoring(
        database, [small_cycle(), small_cycle(text.replace("cycle: small", "cycle: other"))]
    )
    yield service
    await service.close()


@pytest.fixture
def long_histories(monkeypatch):
    """Make a contact with three touchpoints too large to merge in the stream; the job merges it."""
    monkeypatch.setattr(touchpoint_storage, "MOVE_BATCH", 2)


def server(at, number, user_id=None, **fields):
    return touchpoint(at, "Other", number=number, user_id=user_id, trust="server", **fields)


async def test_contact_without_touchpoints_folds_in_two_cycles(two_cycles):
    await two_cycles.ingest([touchpoint(0, number=1, user_id="u")])
    await two_cycles.corrections.correct_touchpoints("default", "u", "exclude", ["m1"], ME)
    await two_cycles.run_jobs()
    await assert_replay_equal(two_cycles)


async def test_manual_stage_without_touchpoints_folds(two_cycles):
    await two_cycles.ingest([touchpoint(0, number=1, user_id="v")])
    await two_cycles.corrections.correct_touchpoints("default", "v", "exclude", [], ME)
    await two_cycles.corrections.set_stage(
        "default", "v", "small", {"sales": "won"}, START + DAY, START + 2 * DAY, ME
    )
    await two_cycles.run_jobs()
    await assert_replay_equal(two_cycles, 0)


@pytest.mark.parametrize("change_before_merge", ["unmerge", "device", "exclude", "nothing"])
async def test_change_before_deferred_merge_folds_right(
    scoring, long_histories, change_before_merge
):
    await scoring.ingest([server(0, 1, "u", **CRM), identify(HOUR, "v", "phone")])
    await scoring.ingest(
        [touchpoint(n * HOUR, number=n, anonymous_id="phone") for n in range(2, 8)]
    )
    await scoring.ingest([server(9 * HOUR, 9, "v", **CRM)])
    if change_before_merge == "unmerge":
        await scoring.identities.unmerge("default", "user_id:v", "external:crm:7", ME)
    if change_before_merge == "device":
        await scoring.ingest([identify(4 * HOUR + 1, "w", "phone")])
    if change_before_merge == "exclude":
        await scoring.corrections.correct_touchpoints("default", "v", "exclude", ["m9"], ME)
    await scoring.run_jobs()

    await assert_replay_equal(scoring)

    assert not await scoring.fetch("SELECT 1 FROM scoring.regroups")


async def test_late_touchpoint_of_surviving_contact_folds_right(scoring):
    await scoring.ingest([touchpoint(n * HOUR, number=n, user_id="u") for n in range(10, 40)])
    await scoring.ingest(
        [touchpoint(60 * HOUR, number=60, anonymous_id="phone", mode="historical")]
    )
    late = touchpoint(HOUR, "Order Completed", number=99, user_id="u")
    await scoring.ingest([identify(61 * HOUR, "u", "phone"), late])
    await scoring.run_jobs()
    await assert_replay_equal(scoring)


async def test_device_is_unmerged_from_several_owners(scoring):
    await scoring.ingest([touchpoint(0, number=1, anonymous_id="phone")])
    for number, user in enumerate(("u", "x", "y")):
        await scoring.ingest([identify((number + 1) * HOUR, user, "phone")])
        await scoring.unmerge(f"user_id:{user}", "anonymous_id:phone")
        contact_of_message = await contact_ids(scoring)
        assert contact_of_message["m1"] != contact_of_message[f"m{(number + 1) * HOUR}-"]
    await assert_replay_equal(scoring)


async def test_manual_stage_follows_its_identifier(scoring):
    await scoring.ingest([touchpoint(0, number=1, user_id="v")])
    await scoring.ingest([server(HOUR, 2, "u", verified_email="e@x.test")])
    await scoring.corrections.set_stage(
        "default", "email:e@x.test", "small", {"sales": "won"}, START + DAY, START + 99 * DAY, ME
    )
    await scoring.run_jobs()
    await scoring.unmerge("user_id:u", "email:e@x.test")
    await assert_replay_equal(scoring)
    await scoring.merge("user_id:v", "email:e@x.test")
    await assert_replay_equal(scoring)


async def test_merged_contact_is_published_as_deleted(scoring):
    await scoring.ingest(
        [identify(0, "u", "phone"), touchpoint(HOUR, number=1, anonymous_id="laptop")]
    )
    await scoring.ingest([identify(2 * HOUR, "u", "laptop"), identify(3 * HOUR, "w", "laptop")])
    ((merged,),) = await scoring.fetch(
        "SELECT contact_id FROM scoring.contacts WHERE merged_into IS NOT NULL"
    )
    await scoring.unmerge("user_id:w", "anonymous_id:laptop")

    last_snapshot = (
        "SELECT value FROM scoring.outbox "
        "WHERE topic = 'contacts' AND key = $1 ORDER BY id DESC LIMIT 1"
    )

    assert (await scoring.fetch(last_snapshot, merged.encode()))[0][0] is None


async def test_identifier_back_at_link_limit_links_again(scoring, monkeypatch):
    for module in (contact_resolution, touchpoint_storage, corrections, identities):
        monkeypatch.setattr(module, "MAX_LINKS", 2)
    monkeypatch.setattr("services.scoring.domain.identifier_components.MAX_LINKS", 2)
    await scoring.ingest([server(n, n, f"u{n}", **CRM) for n in range(6)])

    for n in range(4):
        await scoring.unmerge(f"user_id:u{n}", "external:crm:7")

    assert len(set((await contact_ids(scoring)).values())) == 5

    await assert_replay_equal(scoring)


async def stopped_by_locks(scoring, *tasks):
    """Wait until each task is done or waits for a lock in PostgreSQL."""

    async def stopped():
        ((waiting,),) = await scoring.fetch(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return waiting + sum(task.done() for task in tasks) >= len(tasks)

    await wait_until(stopped, what="a wait for a lock")


async def test_exclusion_races_with_reassignment(scoring):
    await scoring.ingest(
        [touchpoint(0, number=1, anonymous_id="phone"), identify(3 * HOUR, "v", "phone")]
    )
    await scoring.ingest([touchpoint(HOUR, "Order Completed", number=2, anonymous_id="phone")])
    await scoring.ingest([touchpoint(0, number=5, user_id="w")])
    other = Scoring(scoring.database, scoring.cycles)
    holder = await connect(scoring.database, application="holder")
    v = (await contact_ids(scoring))["m1"]
    async with holder.transaction():
        await holder.execute("SELECT 1 FROM scoring.contacts WHERE contact_id = $1 FOR UPDATE", v)
        moving = asyncio.create_task(other.ingest([identify(1, "w", "phone")], 1))
        await stopped_by_locks(scoring, moving)
        excluding = asyncio.create_task(
            scoring.corrections.correct_touchpoints("default", v, "exclude", ["m2"], ME)
        )
        await stopped_by_locks(scoring, moving, excluding)
    await asyncio.gather(moving, excluding, return_exceptions=True)
    await holder.close()
    await scoring.run_jobs()
    await other.close()
    await assert_replay_equal(scoring)


async def test_unmerge_and_stream_lock_in_one_order(scoring):
    await scoring.ingest([touchpoint(0, number=n, user_id=f"u{n}") for n in range(2)])
    contact_of_message = await contact_ids(scoring)
    device_names = (f"d{n}" for n in range(999))
    device = next(
        d
        for d in device_names
        if new_contact_id("default", ("anonymous_id", d))
        < min(contact_of_message["m0"], contact_of_message["m1"])
    )
    await scoring.ingest([touchpoint(0, number=7, anonymous_id=device)])
    await scoring.ingest([identify(HOUR, "u1", device)])
    await scoring.merge("u0", "u1")
    survivor = (await contact_ids(scoring))["m1"]
    other = Scoring(scoring.database, scoring.cycles)
    holder = await connect(scoring.database, application="holder")
    async with holder.transaction():
        await holder.execute(
            "SELECT 1 FROM scoring.contacts WHERE contact_id = $1 FOR UPDATE", survivor
        )
        unmerging = asyncio.create_task(scoring.identities.unmerge("default", "u0", "u1", ME))
        await stopped_by_locks(scoring, unmerging)
        streaming = asyncio.create_task(other.ingest([identify(2 * HOUR, "u0", device)], 1))
        await stopped_by_locks(scoring, unmerging, streaming)
    outcomes = await asyncio.gather(unmerging, streaming, return_exceptions=True)
    await holder.close()

    await other.close()

    assert not [outcome for outcome in outcomes if isinstance(outcome, Exception)], outcomes

    await scoring.run_jobs()
    await assert_replay_equal(scoring)


async def test_contact_keeps_id_after_address_unmerge(scoring):
    await scoring.ingest([server(HOUR, 2, "u", verified_email="e@x.test")])
    before = (await contact_ids(scoring))["m2"]

    await scoring.unmerge("user_id:u", "email:e@x.test")

    assert (await contact_ids(scoring))["m2"] == before


async def test_human_correction_triggers_no_play(scoring):
    ordered = touchpoint(HOUR, "Order Completed", number=2, user_id="u", is_bot=True)
    await scoring.ingest([touchpoint(0, number=1, user_id="u"), ordered])
    await scoring.corrections.correct_touchpoints("default", "u", "human", ["m2"], ME)

    await scoring.run_jobs()

    assert {c["reason"] for c in (await scoring.outbox("stage-changes"))[1:]} <= {"corrected"}

    await assert_replay_equal(scoring)


async def test_merge_into_contact_without_touchpoints_folds_right(scoring):
    await scoring.ingest(
        [touchpoint(0, number=1, anonymous_id="phone"), touchpoint(HOUR, number=2, user_id="u")]
    )
    await scoring.corrections.correct_touchpoints("default", "u", "exclude", ["m2"], ME)
    await scoring.run_jobs()
    await scoring.merge("user_id:u", "anonymous_id:phone")
    await assert_replay_equal(scoring)


async def test_restored_login_publishes_no_new_change(scoring):
    await scoring.ingest([touchpoint(0, number=1), identify(HOUR, number=2)])

    await scoring.ingest([touchpoint(2 * HOUR, "Order Completed", number=3)])

    for kind in ("exclude", "include"):
        before = len(await scoring.outbox("stage-changes"))
        await scoring.corrections.correct_touchpoints("default", "u", kind, ["m2"], ME)
        await scoring.run_jobs()
        reasons = {c["reason"] for c in (await scoring.outbox("stage-changes"))[before:]}
        assert reasons <= {"identity_unmerge", "identity_merge", "corrected"}
        await assert_replay_equal(scoring)


async def test_devices_without_claim_separate(scoring):
    alone = [touchpoint(n * HOUR, number=n, anonymous_id=f"d{n}") for n in (1, 2)]
    await scoring.ingest([touchpoint(0, number=7, user_id="v")])
    await scoring.ingest(
        [identify(0, "u", "d1", number=8), identify(3 * HOUR, "u", "d2", number=9), *alone]
    )
    await scoring.identities.merge("default", "user_id:v", "user_id:u", ME)
    await scoring.corrections.correct_touchpoints("default", "u", "exclude", ["m8", "m9"], ME)
    await scoring.run_jobs()

    contact_of_message = await contact_ids(scoring)

    assert contact_of_message["m1"] != contact_of_message["m2"]

    await assert_replay_equal(scoring)
