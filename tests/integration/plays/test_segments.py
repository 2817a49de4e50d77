"""Segment memberships: entry and exit signals, by touchpoints and by time; orphans."""

import pytest

from libs.common.errors import Conflict, NotFound
from tests.integration.plays.contacts import make_contacts, read_published, signal_message
from tests.integration.plays.play_texts import NOW, enrollments, mail, play
from tests.integration.plays.segment_signals import FRESH, own_signals, sweep
from tests.support.touchpoints import DAY, HOUR, START, touchpoint


async def test_entry_and_exit_signals_are_sent_once(orchestrator):
    ids = await make_contacts(orchestrator, ["ada", "bob"])
    await orchestrator.definitions.define("default", "segment", FRESH, "test", "fresh.yaml")

    await orchestrator.consume([signal_message(ids["ada"], "order_completed", NOW)])

    assert await own_signals(orchestrator) == [], "a signal was sent before the first sweep"
    assert await sweep(orchestrator, NOW) == [], "a member at the first sweep has entered"

    await orchestrator.consume([signal_message(ids["bob"], "order_completed", NOW + HOUR)])
    assert await own_signals(orchestrator) == [("entered:fresh", ids["bob"])]

    await orchestrator.consume([signal_message(ids["bob"], "order_completed", NOW + 2 * HOUR, 1)])
    assert await own_signals(orchestrator) == []
    assert await sweep(orchestrator, NOW + 3 * DAY + HOUR) == [("left:fresh", ids["ada"])], (
        "time alone does not end a membership"
    )
    assert await sweep(orchestrator, NOW + 4 * DAY) == [("left:fresh", ids["bob"])]

    await orchestrator.consume([signal_message(ids["bob"], "order_completed", NOW + 4 * DAY, 2)])

    assert await own_signals(orchestrator) == [("entered:fresh", ids["bob"])], (
        "the contact did not enter again"
    )


async def test_changed_condition_sends_no_signals(orchestrator, segments):
    ids = await make_contacts(orchestrator, ["ada", "bob"])
    await orchestrator.definitions.define("default", "segment", FRESH, "test", "fresh.yaml")
    await orchestrator.consume([signal_message(ids["ada"], "order_completed", NOW)])
    await sweep(orchestrator, NOW)
    changed = "segment: fresh\npublish: true\nwhen: {not: {seen: order_completed}}"
    await orchestrator.definitions.define("default", "segment", changed, "test", "fresh.yaml")

    await orchestrator.consume([signal_message(ids["ada"], "quote_requested", NOW + 1)])

    assert await own_signals(orchestrator) == []
    assert await sweep(orchestrator, NOW + HOUR) == []
    assert [
        member.contact_id for member in await segments.list_members("default", "fresh", 10)
    ] == [ids["bob"]]

    await orchestrator.consume([signal_message(ids["bob"], "order_completed", NOW + HOUR)])

    assert await own_signals(orchestrator) == [("left:fresh", ids["bob"])]


async def test_segment_exit_ends_enrollment(orchestrator, mailbox):
    ids = await make_contacts(orchestrator, ["ada"])
    await orchestrator.definitions.define("default", "segment", FRESH, "test", "fresh.yaml")
    text = play(
        [{"wait": "5d"}, mail()],
        "fresh",
        trigger={"segment": "fresh"},
        exits=[{"signal": "left:fresh"}],
        max_age="9d",
    )
    await orchestrator.publish(text)
    await sweep(orchestrator, NOW)
    await orchestrator.consume([signal_message(ids["ada"], "order_completed", NOW)])

    await own_signals(orchestrator)

    assert [r[2] for r in await enrollments(orchestrator)] == ["active"]

    await sweep(orchestrator, NOW + 4 * DAY)
    assert [r[2] for r in await enrollments(orchestrator)] == ["exited"]

    await sweep(orchestrator, NOW + 6 * DAY)

    assert mailbox.mails == []


async def test_deleted_segment_has_no_members(orchestrator, segments):
    ids = await make_contacts(orchestrator, ["ada"])
    await orchestrator.definitions.define("default", "segment", FRESH, "test", "fresh.yaml")
    await orchestrator.consume([signal_message(ids["ada"], "order_completed", NOW)])

    await sweep(orchestrator, NOW)

    assert {size.segment: size.contacts for size in await segments.list_sizes("default")} == {
        "fresh": 1, "orphans": 0, "prospects_without_reason": 0,
    }  # fmt: skip

    await orchestrator.definitions.delete("default", "segment", "fresh")

    with pytest.raises(NotFound, match="watched"):
        await segments.list_members("default", "fresh", 10)
    assert await orchestrator.fetch("SELECT * FROM orchestrator.segment_members") == []


async def test_merged_contact_enters_and_leaves_once(orchestrator, scoring):
    ids = await make_contacts(orchestrator, ["ada"])
    await orchestrator.definitions.define("default", "segment", FRESH, "test", "fresh.yaml")
    await scoring.ingest([touchpoint(0, "Order Completed", number="o", anonymous_id="phone")])
    await orchestrator.consume(await read_published(scoring))
    ((device,),) = await scoring.fetch(
        "SELECT DISTINCT contact_id FROM scoring.touchpoints WHERE message_id = 'mo'"
    )
    await sweep(orchestrator, START)
    join = touchpoint(HOUR, "x", number="j", user_id="ada", anonymous_id="phone", type="identify")
    await scoring.ingest([join])

    await orchestrator.consume(await read_published(scoring))

    assert device != ids["ada"]
    assert await sweep(orchestrator, START + HOUR) == []
    assert await sweep(orchestrator, START + 9 * DAY) == [("left:fresh", ids["ada"])]
    assert await sweep(orchestrator, START + 10 * DAY) == []


async def test_merged_member_is_listed_once(orchestrator, segments, scoring):
    ids = await make_contacts(orchestrator, ["ada"])
    await orchestrator.definitions.define("default", "segment", FRESH, "test", "fresh.yaml")
    await scoring.ingest([touchpoint(0, "Order Completed", number="o", anonymous_id="phone")])
    await orchestrator.consume(await read_published(scoring))
    await sweep(orchestrator, START)
    join = touchpoint(HOUR, "x", number="j", user_id="ada", anonymous_id="phone", type="identify")
    await scoring.ingest([join])

    await orchestrator.consume(await read_published(scoring))

    for now in (START + HOUR, START + 2 * HOUR):
        assert await sweep(orchestrator, now) == []
        assert [row.contact_id for row in await segments.list_members("default", "fresh", 10)] == [
            ids["ada"]
        ]
        assert {row.segment: row.contacts for row in await segments.list_sizes("default")}[
            "fresh"
        ] == 1

    rows = await orchestrator.fetch("SELECT contact_id, since FROM orchestrator.segment_members")

    assert rows == [(ids["ada"], START)], "the membership does not start with the earlier one"


async def test_condition_changed_during_sweep_sends_no_signals(orchestrator, segments):
    ids = await make_contacts(orchestrator, ["ada", "bob"])
    await orchestrator.definitions.define("default", "segment", FRESH, "test", "fresh.yaml")
    await sweep(orchestrator, NOW)
    orchestrator.clock.instant = NOW + HOUR
    await orchestrator.sweeps.start_due_sweeps()
    changed = "segment: fresh\npublish: true\nwhen: {not: {seen: order_completed}}"
    await orchestrator.definitions.define("default", "segment", changed, "test", "fresh.yaml")

    await orchestrator.run_due()

    assert await own_signals(orchestrator) == []
    assert await sweep(orchestrator, NOW + HOUR + 1) == []
    assert {
        member.contact_id for member in await segments.list_members("default", "fresh", 10)
    } == set(ids.values())

    await orchestrator.definitions.define("default", "segment", FRESH, "test", "fresh.yaml")
    assert await sweep(orchestrator, NOW + 2 * HOUR) == []

    await orchestrator.definitions.define("default", "segment", changed, "test", "fresh.yaml")
    assert await sweep(orchestrator, NOW + 3 * HOUR) == [], "a restored condition sent signals"

    await orchestrator.definitions.delete("default", "segment", "fresh")
    await orchestrator.definitions.define("default", "segment", changed, "test", "fresh.yaml")

    assert await sweep(orchestrator, NOW + 4 * HOUR) == []


@pytest.mark.parametrize(
    "more",
    [
        {"trigger": {"signal": "entered:quiet"}},
        {"exits": [{"signal": "left:quiet"}]},
        {"goal": {"signal": "entered:quiet", "within": "9d"}},
        {"entry": {"not": {"seen": "entered:quiet"}}},
        {"steps": [{"wait_until": {"signal": "entered:quiet", "timeout": "1d"}}]},
    ],
)
async def test_segment_used_by_play_cannot_be_deleted(orchestrator, segments, more):
    await orchestrator.definitions.define(
        "default", "segment", "segment: quiet\nwhen: {seen: complaint}", "test", "quiet.yaml"
    )

    assert "quiet" not in {size.segment for size in await segments.list_sizes("default")}

    await orchestrator.publish(play(more.pop("steps", [mail()]), "waits", **more))

    assert "quiet" in {size.segment for size in await segments.list_sizes("default")}
    with pytest.raises(Conflict, match="waits"):
        await orchestrator.definitions.delete("default", "segment", "quiet")


async def test_segment_condition_reads_brand_touchpoints(orchestrator, scoring):
    ids = await make_contacts(orchestrator, ["ada"])
    await orchestrator.definitions.define(
        "default",
        "segment",
        "segment: warm\npublish: true\nwhen: {not: {idle: 7d}}",
        "test",
        "warm.yaml",
    )
    call = touchpoint(
        8 * DAY, "Sales Call", number="call", user_id="ada", initiative="brand", trust="server"
    )
    await scoring.ingest([call])
    await sweep(orchestrator, START + 9 * DAY)

    await orchestrator.consume([signal_message(ids["ada"], "complaint", START + 9 * DAY)])

    assert await own_signals(orchestrator) == []
