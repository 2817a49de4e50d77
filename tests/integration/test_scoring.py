"""Scoring on a real PostgreSQL: order, repeats, identity, timers, poison, races."""

import msgspec
import pytest

from libs.common.db.outbox import message_from_row
from libs.common.errors import FenceLost
from tests.support.scoring import Scoring, contact_ids, kafka_record
from tests.support.touchpoints import DAY, HOUR, MINUTE, START, identify, small_cycle, touchpoint


async def test_a_stage_change_says_what_a_crm_knows_it_by_and_carries_the_callers_trace(scoring):
    trace = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    told = identify(
        0, "u", None, trust="server", external_ids={"hubspot": "701"}, verified_email="u@x.test"
    )
    order = touchpoint(HOUR, "Order Completed", user_id="u", number=2)
    raw = [msgspec.json.encode(told), msgspec.json.encode(order)]
    headers = [[], [("traceparent", trace)]]
    await scoring.handler.next_offset("touchpoints", 0, 0)
    records = [
        msgspec.structs.replace(kafka_record(v, n, 0), headers=h)
        for n, (v, h) in enumerate(zip(raw, headers, strict=True))
    ]
    await scoring.handler.handle(records)
    changes = await scoring.outbox("stage-changes")
    assert changes[-1]["stage"]["to"] == "customer"
    assert changes[-1]["identifiers"] == ["user_id:u", "email:u@x.test", "external:hubspot:701"]
    assert changes[-1]["crm"] == {"hubspot": "customer", "salesforce": "Closed - Converted"}
    rows = await scoring.fetch("SELECT topic, headers FROM scoring.outbox ORDER BY id")
    traced = [
        topic
        for topic, given in rows
        if dict(message_from_row(topic, b"", None, given).headers).get("traceparent") == trace
    ]
    assert traced == ["signals", "stage-changes"]
    # The CRM writes its record's id back later, by another call: it is the same person, and found by it.
    await scoring.ingest(
        [
            touchpoint(
                2 * HOUR, user_id=None, trust="server", external_ids={"hubspot": "701"}, number=3
            )
        ]
    )
    assert len(set((await contact_ids(scoring)).values())) == 1


async def test_a_touchpoint_becomes_a_stage_change_a_snapshot_and_rows(scoring):
    await scoring.ingest([touchpoint(0, "Order Completed", user_id="u", properties={"total": 9})])
    (change,) = await scoring.outbox("stage-changes")
    assert (change["direction"], change["sequence"], change["reason"]) == ("entry", 1, "touchpoint")
    assert change["stage"] == {"from": None, "to": "customer"}
    assert change["cause"]["message_id"] == "m0-Order Completed"
    (signal,) = await scoring.outbox("signals")
    assert (signal["signal"], signal["properties"]) == ("order_completed", {"total": 9})
    (snapshot,) = await scoring.outbox("contacts")
    assert snapshot["cycles"]["engagement"]["stage"] == "customer"
    assert snapshot["cycles"]["engagement"]["sequence"] == change["sequence"]
    assert snapshot["user_ids"] == ["u"]
    assert (await scoring.replay_check())["equal"]


async def test_a_repeat_is_stored_once_in_the_batch_and_later(scoring):
    first = touchpoint(0, "Order Completed", user_id="u")
    await scoring.ingest([first, first])
    await scoring.ingest([first])
    await scoring.ingest([first], partition=1)
    assert len(await contact_ids(scoring)) == 1
    assert len(await scoring.outbox("signals")) == 1
    assert len(await scoring.outbox("stage-changes")) == 1


async def test_an_old_copy_is_caught_by_the_unique_key_when_its_hash_is_forgotten(scoring):
    first = touchpoint(0, "Order Completed", user_id="u")
    await scoring.ingest([first])
    await scoring.fetch("DELETE FROM scoring.seen")
    await scoring.ingest([first, touchpoint(HOUR, user_id="u")])
    assert len(await contact_ids(scoring)) == 2
    assert (await scoring.replay_check())["equal"]


async def test_late_touchpoints_leave_no_trace_in_the_state(scoring):
    trace = [
        touchpoint(n * DAY, "Order Completed" if n == 3 else "Content Downloaded", user_id="u")
        for n in range(8)
    ]
    for found in reversed(trace):
        await scoring.ingest([found])
    outcome = await scoring.replay_check()
    assert outcome["equal"], outcome


async def test_a_first_claim_by_an_unknown_user_keeps_the_contact(scoring):
    await scoring.ingest([touchpoint(0)])
    await scoring.ingest([identify(HOUR), touchpoint(2 * HOUR, number=9)])
    owner = await contact_ids(scoring)
    assert len(set(owner.values())) == 1
    assert [c["reason"] for c in await scoring.outbox("stage-changes")] == ["touchpoint"] * 2
    assert not await scoring.fetch("SELECT 1 FROM scoring.contacts WHERE merged_into IS NOT NULL")


async def test_a_second_device_merges_into_the_known_user(scoring):
    await scoring.ingest([identify(0, anonymous_id="phone")])
    await scoring.ingest(
        [touchpoint(HOUR, "Content Downloaded", anonymous_id="laptop")], partition=1
    )
    await scoring.ingest([identify(2 * HOUR, anonymous_id="laptop")])
    owner = await contact_ids(scoring)
    assert len(set(owner.values())) == 1
    (loser,) = await scoring.fetch(
        "SELECT contact_id, merged_into FROM scoring.contacts WHERE merged_into IS NOT NULL"
    )
    assert loser[1] in owner.values()
    snapshots = await scoring.fetch(
        "SELECT key, value FROM scoring.outbox WHERE topic = 'contacts' ORDER BY id"
    )
    ends = [
        r[1] and msgspec.json.decode(r[1]).get("merged_into")
        for r in snapshots
        if r[0].decode() == loser[0]
    ]
    assert ends[-2:] == [loser[1], None], "a last message, then the tombstone"
    assert "identity_merge" in [c["reason"] for c in await scoring.outbox("stage-changes")]
    assert (await scoring.replay_check())["equal"]


async def test_a_shared_tablet_fuses_nobody(scoring):
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


async def test_a_late_claim_moves_touchpoints_to_their_owner(scoring):
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


async def test_a_timer_fires_on_the_frontier_and_not_before(scoring):
    await scoring.ingest([touchpoint(0, "Content Downloaded", user_id="u")])
    await scoring.jobs.fire_timers()
    await scoring.set_frontier(START + 14 * DAY)
    await scoring.run_jobs()
    assert len(await scoring.outbox("stage-changes")) == 1
    await scoring.set_frontier(START + 14 * DAY + 1)
    await scoring.run_jobs()
    changes = await scoring.outbox("stage-changes")
    assert [(c["direction"], c["reason"], c["occurred_at"]) for c in changes[1:]] == [
        ("regression", "time", START + 14 * DAY + 1)
    ]
    assert (await scoring.replay_check(START + 14 * DAY + 1))["equal"]


async def test_a_touchpoint_older_than_a_stored_flip_closes_it(scoring):
    await scoring.ingest([touchpoint(0, "Content Downloaded", user_id="u")])
    await scoring.set_frontier(START + 15 * DAY)
    await scoring.run_jobs()
    await scoring.ingest([touchpoint(13 * DAY, "Content Downloaded", user_id="u")])
    await scoring.run_jobs()
    changes = await scoring.outbox("stage-changes")
    assert [c["direction"] for c in changes] == ["entry", "regression", "advance"]
    assert changes[2]["reason"] == "corrected"
    assert (
        len(await scoring.fetch("SELECT 1 FROM scoring.transitions WHERE known_to IS NOT NULL"))
        == 1
    )
    assert (await scoring.replay_check(START + 15 * DAY))["equal"]


POISON = [
    b"", b"not json", b"[]", b"{}", b'{"workspace":1}', None, b"\xff\xfe", b"[" * 20_000,
    b'{"workspace":"default","source":"s","message_id":"m","type":"track","occurred_at":1e400,"received_at":1}',
    b'{"workspace":"default","source":"s","message_id":"n","type":"track","occurred_at":-5,"received_at":1,"user_id":"u"}',
    b'{"workspace":"default","source":"s","message_id":"\\u0000","type":"track","occurred_at":5,"received_at":1,"user_id":"u"}',
    b'{"workspace":"default","source":"s","message_id":"o","type":"dance","occurred_at":5,"received_at":1,"user_id":"u"}',
]  # fmt: skip


async def test_poison_becomes_dead_letters_and_its_neighbours_pass(scoring):
    good = [msgspec.json.encode(touchpoint(n, number=n)) for n in range(len(POISON))]
    mixed = [value for pair in zip(good, POISON, strict=True) for value in pair]
    assert await scoring.ingest_raw(mixed) == len(POISON)
    assert len(await contact_ids(scoring)) == len(good)
    rows = await scoring.fetch(
        "SELECT value, headers FROM scoring.outbox WHERE topic = 'scoring-dlq' ORDER BY id"
    )
    assert [r[0] for r in rows] == POISON
    for row in rows:
        headers = dict(msgspec.msgpack.decode(row[1]))
        assert headers["x-dlq-reason"]
        assert headers["x-dlq-topic"] == b"touchpoints"


async def test_an_unknown_version_is_a_dead_letter(scoring):
    value = msgspec.json.encode(touchpoint(0))
    await scoring.handler.next_offset("touchpoints", 0, 0)
    assert await scoring.handler.handle([kafka_record(value, 0, kind="perigee.touchpoint.v9")]) == 1


async def test_a_zombie_is_fenced_and_writes_nothing(scoring, database):
    await scoring.ingest([touchpoint(0, number=0)])
    zombie = Scoring(database)
    with pytest.raises(FenceLost):
        await zombie.handler.handle([kafka_record(msgspec.json.encode(touchpoint(1, number=1)), 0)])
    assert len(await contact_ids(scoring)) == 1
    await zombie.close()


async def test_a_fold_that_raises_keeps_the_touchpoint_and_the_last_state(scoring):
    await scoring.ingest([touchpoint(0, "Order Completed", user_id="u")])
    engine = scoring.cycles[0].engine
    kept = engine.half_lives.copy()
    engine.half_lives.clear()
    await scoring.ingest(
        [touchpoint(HOUR, "Product Shared", user_id="u"), touchpoint(HOUR, user_id="v")]
    )
    engine.half_lives.extend(kept)
    assert len(await contact_ids(scoring)) == 3
    errors = await scoring.fetch("SELECT fold, error FROM scoring.fold_errors")
    assert [r[0] for r in errors] == ["engagement@1"] * 2
    assert len(await scoring.outbox("stage-changes")) == 1
    await scoring.ingest([touchpoint(2 * HOUR, "Order Completed", user_id="u", number=9)])
    assert len(await scoring.outbox("stage-changes")) == 1, (
        "nothing is folded past what could not be"
    )
    await scoring.fetch("UPDATE scoring.refolds SET queued_at = now() - interval '2 min'")
    await scoring.run_jobs()
    assert await scoring.fetch("SELECT 1 FROM scoring.fold_errors") == []
    assert (await scoring.replay_check())["equal"]


async def test_two_cycles_at_once(database):
    scoring = Scoring(database, [small_cycle(), *Scoring(database).cycles])
    await scoring.ingest(
        [touchpoint(0, user_id="u"), touchpoint(MINUTE, "Order Completed", user_id="u")]
    )
    cycles = {c["cycle"] for c in await scoring.outbox("stage-changes")}
    assert cycles == {"small", "engagement"}
    assert (await scoring.replay_check())["equal"]
    await scoring.close()


async def test_a_merged_contact_does_not_come_back_to_life(scoring):
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
    assert rows[-1][0] is None, "the tombstone is the last that is said of it"
    assert (await scoring.replay_check())["equal"]


async def test_a_backslash_before_u0000_is_text_and_a_nul_is_not(scoring):
    plain, nul = (
        msgspec.json.encode(touchpoint(n, number=n, user_id="u")).replace(b'"m%d"' % n, text)
        for n, text in ((1, b'"m\\\\u0000"'), (2, b'"m\\u0000"'))
    )
    assert await scoring.ingest_raw([plain]) == 0
    assert await scoring.ingest_raw([nul]) == 1
