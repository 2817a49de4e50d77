"""Segments are live: coming and leaving are signals, on what people do and as time passes; and nobody is neglected."""

import pytest

from cli.home import PROJECT
from libs.common.clock import FixedClock
from libs.common.errors import Conflict, NotFound
from libs.common.instants import to_iso
from services.orchestrator.handlers.segments import SegmentService
from services.scoring.handlers.compelling_events import CompellingEventService, NewCompellingEvent
from tests.integration.plays.contacts import make_contacts, read_published, signal_message
from tests.integration.plays.play_texts import NOW, mail, play, runs
from tests.support.touchpoints import DAY, HOUR, START, touchpoint

FRESH = "segment: fresh\npublish: true\nwhen: {seen: order_completed, within: 3d}"


@pytest.fixture
async def desk(orchestrator):
    return SegmentService(orchestrator.sessions[0], orchestrator.playbook, orchestrator.clock)


async def look(orchestrator, now):
    """Look at everybody, and return what is told of it: (signal, contact)."""
    return [(one.signal, one.contact_id) for one in await orchestrator.sweep_at(now)]


async def told(orchestrator):
    return [(one.signal, one.contact_id) for one in await orchestrator.consume_own_signals()]


async def test_coming_and_leaving_are_told_once_each(orchestrator):
    ids = await make_contacts(orchestrator, ["ada", "bob"])
    await orchestrator.definitions.define("default", "segment", FRESH, "test", "fresh.yaml")
    await orchestrator.consume([signal_message(ids["ada"], "order_completed", NOW)])
    assert await told(orchestrator) == [], "nobody was looked at yet"
    assert await look(orchestrator, NOW) == [], (
        "who is in it at the first look has not come into it"
    )
    await orchestrator.consume([signal_message(ids["bob"], "order_completed", NOW + HOUR)])
    assert await told(orchestrator) == [("entered:fresh", ids["bob"])]
    await orchestrator.consume([signal_message(ids["bob"], "order_completed", NOW + 2 * HOUR, 1)])
    assert await told(orchestrator) == []
    assert await look(orchestrator, NOW + 3 * DAY + HOUR) == [("left:fresh", ids["ada"])], (
        "by the time alone"
    )
    assert await look(orchestrator, NOW + 4 * DAY) == [("left:fresh", ids["bob"])]
    await orchestrator.consume([signal_message(ids["bob"], "order_completed", NOW + 4 * DAY, 2)])
    assert await told(orchestrator) == [("entered:fresh", ids["bob"])], "and again"


async def test_another_condition_moves_people_without_a_word(orchestrator, desk):
    ids = await make_contacts(orchestrator, ["ada", "bob"])
    await orchestrator.definitions.define("default", "segment", FRESH, "test", "fresh.yaml")
    await orchestrator.consume([signal_message(ids["ada"], "order_completed", NOW)])
    await look(orchestrator, NOW)
    changed = "segment: fresh\npublish: true\nwhen: {not: {seen: order_completed}}"
    await orchestrator.definitions.define("default", "segment", changed, "test", "fresh.yaml")
    await orchestrator.consume([signal_message(ids["ada"], "quote_requested", NOW + 1)])
    assert await told(orchestrator) == []
    assert await look(orchestrator, NOW + HOUR) == []
    assert [one.contact_id for one in await desk.list_members("default", "fresh", 10)] == [
        ids["bob"]
    ]
    await orchestrator.consume([signal_message(ids["bob"], "order_completed", NOW + HOUR)])
    assert await told(orchestrator) == [("left:fresh", ids["bob"])]


async def test_leaving_ends_a_play_that_says_so(orchestrator, mailbox):
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
    await look(orchestrator, NOW)
    await orchestrator.consume([signal_message(ids["ada"], "order_completed", NOW)])
    await told(orchestrator)
    assert [r[2] for r in await runs(orchestrator)] == ["active"]
    await look(orchestrator, NOW + 4 * DAY)
    assert [r[2] for r in await runs(orchestrator)] == ["exited"]
    await look(orchestrator, NOW + 6 * DAY)
    assert mailbox.mails == []


async def test_a_segment_that_is_no_more_is_forgotten(orchestrator, desk):
    ids = await make_contacts(orchestrator, ["ada"])
    await orchestrator.definitions.define("default", "segment", FRESH, "test", "fresh.yaml")
    await orchestrator.consume([signal_message(ids["ada"], "order_completed", NOW)])
    await look(orchestrator, NOW)
    assert {one.segment: one.contacts for one in await desk.list_sizes("default")} == {
        "fresh": 1, "orphans": 0, "prospects_without_reason": 0,
    }  # fmt: skip
    await orchestrator.definitions.delete("default", "segment", "fresh")
    with pytest.raises(NotFound, match="watched"):
        await desk.list_members("default", "fresh", 10)
    assert await orchestrator.fetch("SELECT * FROM orchestrator.segment_members") == []


@pytest.mark.capability(52)
async def test_who_is_neglected_is_found_and_gone_when_somebody_takes_care(
    orchestrator, desk, scoring
):
    """Row 52: no next step, no touch in two weeks, an owner, a clock."""
    ids = await make_contacts(orchestrator, ["ada", "bob"])
    assert await look(orchestrator, NOW) == []
    call = touchpoint(
        10 * DAY, "Sales Call", number="call", user_id="bob", initiative="brand", trust="server"
    )
    await scoring.ingest([call])
    assert await look(orchestrator, START + 13 * DAY) == []
    assert await look(orchestrator, START + 15 * DAY) == [("entered:orphans", ids["ada"])], (
        "bob was called"
    )
    (member,) = await desk.list_members("default", "orphans", 10)
    assert (member.contact_id, member.email, member.stage, member.owner) == (
        ids["ada"], "ada@x.test", "lead", "marketing",
    )  # fmt: skip
    since = START + 15 * DAY
    assert (member.since, member.deadline, member.overdue) == (
        to_iso(since),
        to_iso(since + 2 * DAY),
        False,
    )
    orchestrator.clock.instant = START + 18 * DAY
    assert [one.overdue for one in await desk.list_members("default", "orphans", 10)] == [True]
    await scoring.ingest([touchpoint(18 * DAY, "Content Downloaded", number="d", user_id="ada")])
    await orchestrator.consume(await read_published(scoring))
    assert await told(orchestrator) == [("left:orphans", ids["ada"])], "at once"
    assert await look(orchestrator, START + 25 * DAY) == [("entered:orphans", ids["bob"])]
    await orchestrator.publish(play([{"wait": "9d"}, mail()]))
    await orchestrator.consume([signal_message(ids["bob"], at=START + 25 * DAY)])
    assert await look(orchestrator, START + 26 * DAY) == [("left:orphans", ids["bob"])], (
        "a next step is planned"
    )
    assert await desk.list_members("default", "orphans", 10) == []


async def test_a_device_that_nobody_knows_is_nobodys_orphan(orchestrator, desk, scoring):
    await make_contacts(orchestrator, [])
    await look(orchestrator, NOW)
    await scoring.ingest([touchpoint(0, "Home", number="p", anonymous_id="phone", type="page")])
    assert await look(orchestrator, START + 40 * DAY) == []


async def test_a_play_may_ask_whether_somebody_is_neglected(orchestrator, scoring, mailbox):
    ids = await make_contacts(orchestrator, ["ada", "bob"])
    await orchestrator.publish(play([mail()], entry={"segment": "orphans"}))
    call = touchpoint(
        10 * DAY, "Sales Call", number="call", user_id="bob", initiative="brand", trust="server"
    )
    await scoring.ingest([call])
    orchestrator.clock.instant = START + 20 * DAY
    await orchestrator.consume([signal_message(ids[name], at=START + 20 * DAY) for name in ids])
    await orchestrator.run_due()
    assert mailbox.recipients == ["ada@x.test"]


async def test_who_was_merged_comes_and_leaves_once(orchestrator, scoring):
    ids = await make_contacts(orchestrator, ["ada"])
    await orchestrator.definitions.define("default", "segment", FRESH, "test", "fresh.yaml")
    await scoring.ingest([touchpoint(0, "Order Completed", number="o", anonymous_id="phone")])
    await orchestrator.consume(await read_published(scoring))
    ((device,),) = await scoring.fetch(
        "SELECT DISTINCT contact_id FROM scoring.touchpoints WHERE message_id = 'mo'"
    )
    await look(orchestrator, START)
    join = touchpoint(HOUR, "x", number="j", user_id="ada", anonymous_id="phone", type="identify")
    await scoring.ingest([join])
    await orchestrator.consume(await read_published(scoring))
    assert device != ids["ada"]
    assert await look(orchestrator, START + HOUR) == []
    assert await look(orchestrator, START + 9 * DAY) == [("left:fresh", ids["ada"])]
    assert await look(orchestrator, START + 10 * DAY) == []


async def test_a_merged_member_is_listed_once_under_the_survivor(orchestrator, desk, scoring):
    ids = await make_contacts(orchestrator, ["ada"])
    await orchestrator.definitions.define("default", "segment", FRESH, "test", "fresh.yaml")
    await scoring.ingest([touchpoint(0, "Order Completed", number="o", anonymous_id="phone")])
    await orchestrator.consume(await read_published(scoring))
    await look(orchestrator, START)
    join = touchpoint(HOUR, "x", number="j", user_id="ada", anonymous_id="phone", type="identify")
    await scoring.ingest([join])
    await orchestrator.consume(await read_published(scoring))
    for now in (START + HOUR, START + 2 * HOUR):
        assert await look(orchestrator, now) == []
        assert [one.contact_id for one in await desk.list_members("default", "fresh", 10)] == [
            ids["ada"]
        ]
        assert {one.segment: one.contacts for one in await desk.list_sizes("default")}["fresh"] == 1
    rows = await orchestrator.fetch("SELECT contact_id, since FROM orchestrator.segment_members")
    assert rows == [(ids["ada"], START)], "since the first of them"


async def test_a_condition_that_changes_while_everybody_is_looked_at_tells_nobody(
    orchestrator, desk
):
    ids = await make_contacts(orchestrator, ["ada", "bob"])
    await orchestrator.definitions.define("default", "segment", FRESH, "test", "fresh.yaml")
    await look(orchestrator, NOW)
    orchestrator.clock.instant = NOW + HOUR
    await orchestrator.sweeps.start_due_sweeps()
    changed = "segment: fresh\npublish: true\nwhen: {not: {seen: order_completed}}"
    await orchestrator.definitions.define("default", "segment", changed, "test", "fresh.yaml")
    await orchestrator.run_due()
    assert await told(orchestrator) == []
    assert await look(orchestrator, NOW + HOUR + 1) == []
    assert {one.contact_id for one in await desk.list_members("default", "fresh", 10)} == set(
        ids.values()
    )
    await orchestrator.definitions.define("default", "segment", FRESH, "test", "fresh.yaml")
    assert await look(orchestrator, NOW + 2 * HOUR) == []
    await orchestrator.definitions.define("default", "segment", changed, "test", "fresh.yaml")
    assert await look(orchestrator, NOW + 3 * HOUR) == [], (
        "as it was once is another one all the same"
    )
    await orchestrator.definitions.delete("default", "segment", "fresh")
    await orchestrator.definitions.define("default", "segment", changed, "test", "fresh.yaml")
    assert await look(orchestrator, NOW + 4 * HOUR) == []


async def test_an_alert_that_waits_does_not_end_what_it_warns_of(orchestrator, desk):
    """No destination is defined, so that sales hear of the orphan later: it stays one."""
    ids = await make_contacts(orchestrator, ["ada"])
    text = (PROJECT / "plays" / "orphan_to_owner.yaml").read_text()
    await orchestrator.definitions.define(
        "default",
        "destination",
        "destination: sales\nchannel: webhook\nurl: https://x.invalid/",
        "test",
        "sales.yaml",
    )
    await orchestrator.publish(text)
    await orchestrator.desk.set_channel_stopped("default", "webhook", "ops", on=True)
    await look(orchestrator, NOW)
    assert await look(orchestrator, START + 15 * DAY) == [("entered:orphans", ids["ada"])]
    assert await orchestrator.action_states() == [("held", "kill_switch")]
    for hour in range(1, 5):
        assert await look(orchestrator, START + 15 * DAY + hour * HOUR) == []
    assert len(await desk.list_members("default", "orphans", 10)) == 1


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
async def test_a_segment_whose_coming_or_going_a_play_waits_for_is_watched_and_stays(
    orchestrator, desk, more
):
    await orchestrator.definitions.define(
        "default", "segment", "segment: quiet\nwhen: {seen: complaint}", "test", "quiet.yaml"
    )
    assert "quiet" not in {one.segment for one in await desk.list_sizes("default")}
    await orchestrator.publish(play(more.pop("steps", [mail()]), "waits", **more))
    assert "quiet" in {one.segment for one in await desk.list_sizes("default")}
    with pytest.raises(Conflict, match="waits"):
        await orchestrator.definitions.delete("default", "segment", "quiet")


async def test_a_segment_of_those_who_are_in_touch_knows_of_our_own_calls(orchestrator, scoring):
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
    await look(orchestrator, START + 9 * DAY)
    await orchestrator.consume([signal_message(ids["ada"], "complaint", START + 9 * DAY)])
    assert await told(orchestrator) == []


@pytest.mark.capability(41)
async def test_prospects_without_a_compelling_event_are_listed(orchestrator, desk, scoring):
    """Row 41: opportunities without one are listed; one about the contact, or about their company, is one."""
    ids = await make_contacts(orchestrator, ["ada", "bob", "eve"])
    quotes = [touchpoint(HOUR, "Quote Requested", number=f"q-{name}", user_id=name) for name in ids]
    await scoring.ingest(
        [*quotes, touchpoint(HOUR, "", number="g", user_id="bob", type="group", group_id="acme")]
    )
    events = CompellingEventService(orchestrator.sessions[0], scoring.outboxes, FixedClock(NOW))
    await events.raise_event(
        "default", NewCompellingEvent("contract_ends", "contact", "ada", "e-1"), "test"
    )
    await events.raise_event("default", NewCompellingEvent("funding", "account", "acme"), "test")
    await look(orchestrator, NOW)
    listed = await desk.list_members("default", "prospects_without_reason", 10)
    assert [one.contact_id for one in listed] == [ids["eve"]]
    assert listed[0].stage == "prospect"
    await events.withdraw("default", "e-1")
    assert await look(orchestrator, NOW + HOUR) == [
        ("entered:prospects_without_reason", ids["ada"])
    ]
