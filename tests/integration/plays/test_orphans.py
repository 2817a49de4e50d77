"""Orphans and prospects without a compelling event: the shipped segments of neglected contacts."""

import pytest

from cli.home import PROJECT
from libs.common.clock import FixedClock
from libs.common.instants import to_iso
from services.scoring.handlers.compelling_events import CompellingEventService, NewCompellingEvent
from tests.integration.plays.contacts import make_contacts, read_published, signal_message
from tests.integration.plays.play_texts import NOW, mail, play
from tests.integration.plays.segment_signals import own_signals, sweep
from tests.support.touchpoints import DAY, HOUR, START, touchpoint


@pytest.mark.capability(52)
async def test_orphan_leaves_segment_after_touch_or_plan(orchestrator, segments, scoring):
    """An orphan has no next step and no touch in two weeks; it gets an owner and a deadline."""
    ids = await make_contacts(orchestrator, ["ada", "bob"])

    assert await sweep(orchestrator, NOW) == []

    call = touchpoint(
        10 * DAY, "Sales Call", number="call", user_id="bob", initiative="brand", trust="server"
    )
    await scoring.ingest([call])
    assert await sweep(orchestrator, START + 13 * DAY) == []
    assert await sweep(orchestrator, START + 15 * DAY) == [("entered:orphans", ids["ada"])], (
        "a contact with a recent call is an orphan"
    )

    (member,) = await segments.list_members("default", "orphans", 10)
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
    assert [member.overdue for member in await segments.list_members("default", "orphans", 10)] == [
        True
    ]

    await scoring.ingest([touchpoint(18 * DAY, "Content Downloaded", number="d", user_id="ada")])
    await orchestrator.consume(await read_published(scoring))
    assert await own_signals(orchestrator) == [("left:orphans", ids["ada"])], (
        "the orphan does not leave at once"
    )
    assert await sweep(orchestrator, START + 25 * DAY) == [("entered:orphans", ids["bob"])]

    await orchestrator.publish(play([{"wait": "9d"}, mail()]))
    await orchestrator.consume([signal_message(ids["bob"], at=START + 25 * DAY)])

    assert await sweep(orchestrator, START + 26 * DAY) == [("left:orphans", ids["bob"])], (
        "a contact with a planned step is an orphan"
    )
    assert await segments.list_members("default", "orphans", 10) == []


async def test_anonymous_device_is_no_orphan(orchestrator, segments, scoring):
    await make_contacts(orchestrator, [])
    await sweep(orchestrator, NOW)

    await scoring.ingest([touchpoint(0, "Home", number="p", anonymous_id="phone", type="page")])

    assert await sweep(orchestrator, START + 40 * DAY) == []


async def test_play_condition_reads_orphan_segment(orchestrator, scoring, mailbox):
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


async def test_held_alert_keeps_contact_orphan(orchestrator, segments):
    """The webhook channel is stopped, so sales get the alert later: the contact stays an orphan."""
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
    await orchestrator.play_service.set_channel_stopped("default", "webhook", "ops", on=True)

    await sweep(orchestrator, NOW)

    assert await sweep(orchestrator, START + 15 * DAY) == [("entered:orphans", ids["ada"])]
    assert await orchestrator.action_states() == [("held", "kill_switch")]
    for hour in range(1, 5):
        assert await sweep(orchestrator, START + 15 * DAY + hour * HOUR) == []
    assert len(await segments.list_members("default", "orphans", 10)) == 1


@pytest.mark.capability(41)
async def test_prospects_without_compelling_event_are_listed(orchestrator, segments, scoring):
    """An event of the contact or of its account counts."""
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
    await sweep(orchestrator, NOW)

    listed = await segments.list_members("default", "prospects_without_reason", 10)

    assert [member.contact_id for member in listed] == [ids["eve"]]
    assert listed[0].stage == "prospect"

    await events.withdraw("default", "e-1")

    assert await sweep(orchestrator, NOW + HOUR) == [
        ("entered:prospects_without_reason", ids["ada"])
    ]
