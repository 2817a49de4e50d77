"""The refold queue: historical touchpoints, and contacts too long for a batch."""

import msgspec

from services.scoring.handlers import fold_jobs, touchpoint_batch
from tests.support.scoring import contact_ids
from tests.support.touchpoints import DAY, START, identify, touchpoint


async def test_history_is_stored_and_folded_from_queue(scoring):
    history = [
        touchpoint(n * DAY, "Content Downloaded", user_id="u", mode="historical", number=n)
        for n in range(5)
    ]
    await scoring.ingest(history)

    assert len(await contact_ids(scoring)) == 5
    assert await scoring.outbox("stage-changes") == []

    await scoring.ingest([touchpoint(90 * DAY, "Order Completed", user_id="u")])
    assert await scoring.outbox("stage-changes") == [], (
        "the contact was folded before its queued refold"
    )

    await scoring.set_frontier(START + 90 * DAY)
    await scoring.run_jobs()
    changes = await scoring.outbox("stage-changes")

    assert [c["reason"] for c in changes] == ["history", "touchpoint"]
    assert [c["direction"] for c in changes] == ["entry", "re_entry"]
    assert (await scoring.replay_check(START + 90 * DAY))["equal"]


async def test_signals_of_history_are_marked_historical(scoring):
    consent = {"marketing": True}
    await scoring.ingest(
        [identify(0, mode="historical", consent=consent, traits={"email": "a@x.test"})]
    )

    (row,) = await scoring.fetch(
        "SELECT value, headers FROM scoring.outbox WHERE topic = 'signals'"
    )

    assert msgspec.json.decode(row[0])["historical"]
    assert ["ce_reason", b"history"] in msgspec.msgpack.decode(row[1])

    (profile,) = await scoring.fetch("SELECT traits FROM scoring.contact_profiles")

    assert msgspec.json.decode(profile[0]) == {"email": "a@x.test"}


async def test_queued_refold_publishes_corrected_change(scoring):
    await scoring.ingest([touchpoint(10 * DAY, "Order Completed", user_id="u")])
    await scoring.fetch(
        "UPDATE scoring.touchpoints SET data = replace(data, 'Order Completed', 'Home')"
    )
    await scoring.fetch(
        "INSERT INTO scoring.refolds (contact_id, reason) "
        "SELECT contact_id, 'late' FROM scoring.contacts"
    )
    await scoring.run_jobs()

    changes = await scoring.outbox("stage-changes")

    assert [c["reason"] for c in changes] == ["touchpoint", "corrected"]


async def test_change_by_history_has_reason_history(scoring):
    await scoring.ingest([touchpoint(10 * DAY, "Product Viewed", user_id="u")])
    await scoring.ingest([touchpoint(9 * DAY, "Order Completed", user_id="u", mode="historical")])
    await scoring.set_frontier(START + 10 * DAY)

    await scoring.run_jobs()

    assert [c["reason"] for c in await scoring.outbox("stage-changes")] == ["touchpoint", "history"]


async def test_long_contact_refolds_from_queue(scoring, monkeypatch):
    monkeypatch.setattr(touchpoint_batch, "MAX_INLINE_REFOLD", 5)
    monkeypatch.setattr(fold_jobs, "TOUCHPOINT_BUDGET", 3)
    users = ("u", "v")

    for user in users:
        await scoring.ingest(
            [touchpoint(n * DAY, number=f"{user}{n}", user_id=user) for n in range(2, 10)]
        )
        await scoring.ingest(
            [touchpoint(DAY, "Content Downloaded", number=f"{user}-late", user_id=user)]
        )

    assert len(await scoring.fetch("SELECT 1 FROM scoring.refolds")) == 2
    assert not (await scoring.replay_check())["equal"]

    await scoring.run_jobs()

    assert (await scoring.replay_check())["equal"]
