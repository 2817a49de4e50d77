"""Scoring on a real PostgreSQL: order, duplicates, identity, timers, malformed records, races."""

import msgspec
import pytest

from libs.common.db.outbox import message_from_row
from libs.common.errors import FenceLost
from tests.support.scoring import Scoring, contact_ids, kafka_record
from tests.support.touchpoints import DAY, HOUR, MINUTE, START, identify, small_cycle, touchpoint


async def test_stage_change_has_crm_ids_and_trace(scoring):
    trace = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    login = identify(
        0, "u", None, trust="server", external_ids={"hubspot": "701"}, verified_email="u@x.test"
    )
    order = touchpoint(HOUR, "Order Completed", user_id="u", number=2)
    raw = [msgspec.json.encode(login), msgspec.json.encode(order)]
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
        for topic, stored_headers in rows
        if dict(message_from_row(topic, b"", None, stored_headers).headers).get("traceparent")
        == trace
    ]
    assert traced == ["signals", "stage-changes"]

    # A later call of the CRM has its record's id alone: it resolves to the same contact.
    await scoring.ingest(
        [
            touchpoint(
                2 * HOUR, user_id=None, trust="server", external_ids={"hubspot": "701"}, number=3
            )
        ]
    )

    assert len(set((await contact_ids(scoring)).values())) == 1


async def test_touchpoint_publishes_stage_change_signal_and_snapshot(scoring):
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


async def test_duplicate_is_stored_once(scoring):
    order = touchpoint(0, "Order Completed", user_id="u")
    await scoring.ingest([order, order])
    await scoring.ingest([order])

    await scoring.ingest([order], partition=1)

    assert len(await contact_ids(scoring)) == 1
    assert len(await scoring.outbox("signals")) == 1
    assert len(await scoring.outbox("stage-changes")) == 1


async def test_unique_key_rejects_duplicate_without_hash(scoring):
    order = touchpoint(0, "Order Completed", user_id="u")
    await scoring.ingest([order])
    await scoring.fetch("DELETE FROM scoring.seen")

    await scoring.ingest([order, touchpoint(HOUR, user_id="u")])

    assert len(await contact_ids(scoring)) == 2
    assert (await scoring.replay_check())["equal"]


async def test_reversed_arrival_gives_equal_state(scoring):
    trace = [
        touchpoint(n * DAY, "Order Completed" if n == 3 else "Content Downloaded", user_id="u")
        for n in range(8)
    ]
    for late in reversed(trace):
        await scoring.ingest([late])

    outcome = await scoring.replay_check()

    assert outcome["equal"], outcome


async def test_timer_fires_at_frontier(scoring):
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


async def test_late_touchpoint_corrects_timed_change(scoring):
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


def _raw(fields):
    return b'{"workspace":"default","source":"s","received_at":1,%b}' % fields


MALFORMED_VALUES = [
    b"", b"not json", b"[]", b"{}", b'{"workspace":1}', None, b"\xff\xfe", b"[" * 20_000,
    _raw(b'"message_id":"m","type":"track","occurred_at":1e400'),
    _raw(b'"message_id":"n","type":"track","occurred_at":-5,"user_id":"u"'),
    _raw(b'"message_id":"\\u0000","type":"track","occurred_at":5,"user_id":"u"'),
    _raw(b'"message_id":"o","type":"dance","occurred_at":5,"user_id":"u"'),
]  # fmt: skip


async def test_malformed_records_alone_become_dead_letters(scoring):
    valid = [msgspec.json.encode(touchpoint(n, number=n)) for n in range(len(MALFORMED_VALUES))]
    mixed = [value for pair in zip(valid, MALFORMED_VALUES, strict=True) for value in pair]

    assert await scoring.ingest_raw(mixed) == len(MALFORMED_VALUES)
    assert len(await contact_ids(scoring)) == len(valid)

    rows = await scoring.fetch(
        "SELECT value, headers FROM scoring.outbox WHERE topic = 'scoring-dlq' ORDER BY id"
    )

    assert [r[0] for r in rows] == MALFORMED_VALUES

    for row in rows:
        headers = dict(msgspec.msgpack.decode(row[1]))
        assert headers["x-dlq-reason"]
        assert headers["x-dlq-topic"] == b"touchpoints"


async def test_unknown_message_version_is_dead_letter(scoring):
    value = msgspec.json.encode(touchpoint(0))
    await scoring.handler.next_offset("touchpoints", 0, 0)

    assert await scoring.handler.handle([kafka_record(value, 0, kind="perigee.touchpoint.v9")]) == 1


async def test_zombie_is_fenced_and_writes_nothing(scoring, database):
    await scoring.ingest([touchpoint(0, number=0)])
    zombie = Scoring(database)

    with pytest.raises(FenceLost):
        await zombie.handler.handle([kafka_record(msgspec.json.encode(touchpoint(1, number=1)), 0)])
    assert len(await contact_ids(scoring)) == 1

    await zombie.close()


async def test_fold_error_keeps_touchpoint_and_last_state(scoring):
    await scoring.ingest([touchpoint(0, "Order Completed", user_id="u")])
    engine = scoring.cycles[0].engine
    half_lives = engine.half_lives.copy()
    engine.half_lives.clear()
    await scoring.ingest(
        [touchpoint(HOUR, "Product Shared", user_id="u"), touchpoint(HOUR, user_id="v")]
    )

    engine.half_lives.extend(half_lives)

    assert len(await contact_ids(scoring)) == 3

    errors = await scoring.fetch("SELECT fold, error FROM scoring.fold_errors")
    assert [r[0] for r in errors] == ["engagement@1"] * 2
    assert len(await scoring.outbox("stage-changes")) == 1

    await scoring.ingest([touchpoint(2 * HOUR, "Order Completed", user_id="u", number=9)])
    assert len(await scoring.outbox("stage-changes")) == 1, (
        "the contact was folded after its fold error"
    )

    await scoring.fetch("UPDATE scoring.refolds SET queued_at = now() - interval '2 min'")
    await scoring.run_jobs()

    assert await scoring.fetch("SELECT 1 FROM scoring.fold_errors") == []
    assert (await scoring.replay_check())["equal"]


async def test_two_cycles_fold_side_by_side(database):
    scoring = Scoring(database, [small_cycle(), *Scoring(database).cycles])
    await scoring.ingest(
        [touchpoint(0, user_id="u"), touchpoint(MINUTE, "Order Completed", user_id="u")]
    )

    cycles = {c["cycle"] for c in await scoring.outbox("stage-changes")}

    assert cycles == {"small", "engagement"}
    assert (await scoring.replay_check())["equal"]

    await scoring.close()


async def test_escaped_backslash_u0000_is_no_nul(scoring):
    plain, nul = (
        msgspec.json.encode(touchpoint(n, number=n, user_id="u")).replace(b'"m%d"' % n, text)
        for n, text in ((1, b'"m\\\\u0000"'), (2, b'"m\\u0000"'))
    )

    assert await scoring.ingest_raw([plain]) == 0
    assert await scoring.ingest_raw([nul]) == 1
