"""Device claims on a real PostgreSQL: the owner of each touchpoint, merges and tombstones."""

import msgspec

from tests.support.scoring import contact_ids
from tests.support.touchpoints import HOUR, identify, touchpoint


async def test_first_claim_by_unknown_user_keeps_contact(scoring):
    await scoring.ingest([touchpoint(0)])
    await scoring.ingest([identify(HOUR), touchpoint(2 * HOUR, number=9)])

    owner = await contact_ids(scoring)

    assert len(set(owner.values())) == 1
    assert [c["reason"] for c in await scoring.outbox("stage-changes")] == ["touchpoint"] * 2
    assert not await scoring.fetch("SELECT 1 FROM scoring.contacts WHERE merged_into IS NOT NULL")


async def test_second_device_merges_into_known_user(scoring):
    await scoring.ingest([identify(0, anonymous_id="phone")])
    await scoring.ingest(
        [touchpoint(HOUR, "Content Downloaded", anonymous_id="laptop")], partition=1
    )
    await scoring.ingest([identify(2 * HOUR, anonymous_id="laptop")])

    owner = await contact_ids(scoring)

    assert len(set(owner.values())) == 1

    (merged,) = await scoring.fetch(
        "SELECT contact_id, merged_into FROM scoring.contacts WHERE merged_into IS NOT NULL"
    )
    assert merged[1] in owner.values()

    snapshots = await scoring.fetch(
        "SELECT key, value FROM scoring.outbox WHERE topic = 'contacts' ORDER BY id"
    )
    redirects = [
        r[1] and msgspec.json.decode(r[1]).get("merged_into")
        for r in snapshots
        if r[0].decode() == merged[0]
    ]

    assert redirects[-2:] == [merged[1], None], (
        "the merged contact does not end with its redirect and a tombstone"
    )
    assert "identity_merge" in [c["reason"] for c in await scoring.outbox("stage-changes")]
    assert (await scoring.replay_check())["equal"]


async def test_shared_tablet_merges_no_users(scoring):
    tablet = {"anonymous_id": "tablet"}
    await scoring.ingest([touchpoint(0, number=0, **tablet), identify(HOUR, "u", "tablet")])
    await scoring.ingest(
        [touchpoint(2 * HOUR, number=1, **tablet), identify(3 * HOUR, "v", "tablet")], partition=1
    )
    await scoring.ingest([touchpoint(4 * HOUR, number=2, **tablet)])

    owner = await contact_ids(scoring)

    assert owner["m0"] == owner["m1"]
    assert owner["m2"] != owner["m1"]
    assert (await scoring.replay_check())["equal"]


async def test_late_claim_reassigns_touchpoints(scoring):
    tablet = {"anonymous_id": "tablet"}
    await scoring.ingest(
        [identify(3 * HOUR, "v", "tablet"), touchpoint(2 * HOUR, number=1, **tablet)]
    )
    before = (await contact_ids(scoring))["m1"]
    await scoring.ingest([identify(HOUR, "u", "tablet")], partition=1)

    after = (await contact_ids(scoring))["m1"]

    assert before != after

    outcome = await scoring.replay_check()

    assert outcome["equal"], outcome


async def test_tombstone_is_last_message_of_merged_contact(scoring):
    await scoring.ingest([identify(0, anonymous_id="phone")])
    await scoring.ingest([touchpoint(HOUR, anonymous_id="tablet")])
    await scoring.ingest([identify(2 * HOUR, anonymous_id="tablet")])
    ((merged,),) = await scoring.fetch(
        "SELECT contact_id FROM scoring.contacts WHERE merged_into IS NOT NULL"
    )
    await scoring.ingest(
        [identify(3 * HOUR, "v", "tablet"), touchpoint(4 * HOUR, number=1, anonymous_id="tablet")]
    )

    rows = await scoring.fetch(
        "SELECT value FROM scoring.outbox WHERE topic = 'contacts' AND key = $1 ORDER BY id",
        merged.encode(),
    )

    assert rows[-1][0] is None, "a message follows the tombstone"
    assert (await scoring.replay_check())["equal"]
