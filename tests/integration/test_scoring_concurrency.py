"""Shared devices over several instances, partitions and batches give the rows of one fold."""

import asyncio
import random

import pytest

from libs.common.observability import metrics
from services.scoring.repository import identity
from tests.support.scoring import Scoring
from tests.support.touchpoints import DAY, HOUR, START, touchpoint
from tests.support.waiting import last


def shuffled_touchpoints(seed, size=250):
    """Return touchpoints of three users on shared devices, in random order, some duplicated."""
    chance = random.Random(seed)
    names = [
        "Product Viewed",
        "Content Downloaded",
        "Order Completed",
        "Complaint Received",
        "Quote Requested",
    ]
    touchpoints = []
    for number in range(size):
        user = chance.choice([None, None, "u", "v", "w"])
        device = chance.choice(["a", "b", "c"] if user is None else ["a", "b", "c", None])
        mode = "historical" if chance.random() < 0.1 else "live"
        at = chance.randrange(120) * DAY + chance.randrange(24) * HOUR
        kind = {"type": "identify"} if user and device and chance.random() < 0.3 else {}
        touchpoints.append(
            touchpoint(
                at,
                chance.choice(names),
                number=number,
                user_id=user,
                anonymous_id=device,
                mode=mode,
                **kind,
            )
        )
    touchpoints += chance.sample(touchpoints, size // 10)
    chance.shuffle(touchpoints)
    return touchpoints, chance


@pytest.mark.parametrize("seed", range(6))
async def test_shared_devices_in_parallel_partitions_fold_equal(database, seed):
    """Timers and refolds run meanwhile; the pure rows are those of one fold."""
    print("seed", seed)
    touchpoints, chance = shuffled_touchpoints(seed)
    instances = [Scoring(database), Scoring(database)]
    shares = [touchpoints[p::3] for p in range(3)]

    async def feed(partition):
        scoring = instances[partition % 2]
        share = shares[partition]
        while share:
            size = chance.randrange(1, 30)
            await scoring.ingest(share[:size], partition)
            share = share[size:]

    async def run_timers():
        for day in range(20, 140, 20):
            await instances[0].set_frontier(START + day * DAY)
            await instances[0].run_jobs()
            await last(0.02)

    await asyncio.gather(feed(0), feed(1), feed(2), run_timers())
    await instances[0].set_frontier(START + 200 * DAY)
    await instances[0].run_jobs()
    outcome = await instances[0].replay_check(START + 200 * DAY)
    assert outcome["equal"], outcome
    assert outcome["touchpoints"] == 250
    await check_published(instances[0])
    for scoring in instances:
        await scoring.close()


async def check_published(scoring):
    """Check that sequences have no gap and each change starts at the last one's end."""
    ends = {}
    merged = {
        r[0]
        for r in await scoring.fetch(
            "SELECT contact_id FROM scoring.contacts WHERE merged_into IS NOT NULL"
        )
    }
    for change in await scoring.outbox("stage-changes"):
        sequence, stage = ends.get(change["contact_id"], (0, None))
        assert change["sequence"] == sequence + 1
        assert change["stage"]["from"] == stage
        ends[change["contact_id"]] = (change["sequence"], change["stage"]["to"])
    rows = await scoring.fetch("SELECT contact_id, sequence, stage FROM scoring.publications")
    assert {r[0]: (r[1], r[2]) for r in rows if r[0] not in merged} == {
        c: e for c, e in ends.items() if c not in merged
    }


async def test_new_device_of_a_contact_does_not_repeat_a_batch(database, monkeypatch):
    """Another process gives the contact a device between this one's reads and its locks."""
    here, elsewhere = Scoring(database), Scoring(database)
    await here.ingest([touchpoint(0, number=1, user_id="u", anonymous_id="a")], 0)
    lock_contacts = identity.lock_contacts

    async def lock_after_another_commit(connection, contacts):
        monkeypatch.undo()
        await elsewhere.ingest([touchpoint(HOUR, number=2, user_id="u", anonymous_id="b")], 1)
        return await lock_contacts(connection, contacts)

    resolutions = metrics.IDENTITY_RESOLUTIONS._value.get()
    monkeypatch.setattr(identity, "lock_contacts", lock_after_another_commit)
    await here.ingest([touchpoint(DAY, number=3, anonymous_id="a")], 0)

    assert metrics.IDENTITY_RESOLUTIONS._value.get() == resolutions + 2
    assert (await here.replay_check(START + 2 * DAY))["equal"]
    for scoring in (here, elsewhere):
        await scoring.close()


async def test_claim_by_another_process_moves_a_batch(database, monkeypatch):
    """Another process claims the device between this one's reads and its locks."""
    here, elsewhere = Scoring(database), Scoring(database)
    await here.ingest([touchpoint(0, number=1, anonymous_id="a")], 0)
    lock_contacts = identity.lock_contacts

    async def lock_after_another_commit(connection, contacts):
        monkeypatch.undo()
        await elsewhere.ingest([touchpoint(HOUR, number=2, user_id="u", anonymous_id="a")], 1)
        return await lock_contacts(connection, contacts)

    monkeypatch.setattr(identity, "lock_contacts", lock_after_another_commit)
    await here.ingest([touchpoint(DAY, number=3, anonymous_id="a")], 0)

    owners = await here.fetch(
        "SELECT DISTINCT t.contact_id = i.contact_id FROM scoring.touchpoints t, "
        "scoring.identifiers i WHERE i.type = 'user_id'"
    )
    assert [r[0] for r in owners] == [True]
    assert (await here.replay_check(START + 2 * DAY))["equal"]
    for scoring in (here, elsewhere):
        await scoring.close()
