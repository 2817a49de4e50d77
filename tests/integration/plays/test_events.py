"""Compelling events of contacts, accounts and markets, and the plays that they start."""

import pytest
import yaml

from cli.home import PROJECT
from libs.common.clock import FixedClock
from libs.common.db.connection import Session
from libs.common.errors import ConfigurationError, Conflict, NotFound
from services.scoring.domain.cycle import build_cycle
from services.scoring.domain.cycle_parser import parse_cycle_spec
from services.scoring.handlers.compelling_events import CompellingEventService, NewCompellingEvent
from tests.integration.plays.contacts import make_contacts, read_published
from tests.integration.plays.play_texts import NOW, mail, play
from tests.support.scoring import Scoring
from tests.support.touchpoints import DAY, HOUR, identify, touchpoint


@pytest.fixture
async def events(database, scoring):
    session = Session(database, "test-events")
    yield CompellingEventService(session, scoring.outboxes, FixedClock(NOW))
    await session.close()


async def consume_events(orchestrator, scoring):
    """Let the orchestrator consume the events that scoring has published."""
    values = await read_published(scoring, "compelling-events")
    await orchestrator.consume(values, "compelling-events")
    await orchestrator.run_due()


def renewal(**more):
    text = mail(
        mail={
            "subject": "{{ event.kind }} {{ event.days_left }}",
            "text": "{{ event.consequence }} {{ unsubscribe_url }}",
        }
    )
    trigger = {"compelling_event": {"kind": "contract_ends", **more.pop("event", {})}}
    return play([text], "renewal", trigger=trigger, **more)


@pytest.mark.capability(41)
async def test_event_date_starts_play_at_each_threshold(orchestrator, scoring, events, mailbox):
    await make_contacts(orchestrator, ["ada"])
    await orchestrator.publish(renewal(event={"on": ["raised", "nearing"]}))
    contract_end = NewCompellingEvent(
        "contract_ends", "contact", "ada", "deal-7", NOW + 40 * DAY, "jo", "the old price is gone"
    )
    await events.raise_event("default", contract_end, "test")
    await consume_events(orchestrator, scoring)
    for day in range(45):
        events._clock.instant = orchestrator.clock.instant = NOW + day * DAY
        await events.announce_due()
        await events.announce_due()
        await consume_events(orchestrator, scoring)

    subjects = [
        mail.content.decode().split("Subject: ")[1].split("\r")[0].strip() for mail in mailbox.mails
    ]

    assert subjects == ["contract_ends", "contract_ends 30", "contract_ends 7", "contract_ends 1"]
    assert "the old price is gone" in mailbox.mails[0].content.decode()
    assert await events.list_open("default", None, 10) == []


async def test_withdrawn_event_ends_its_enrollments(orchestrator, scoring, events, mailbox):
    await make_contacts(orchestrator, ["ada"])
    text = play(
        [{"wait": "1d"}, mail()], "renewal", trigger={"compelling_event": {"kind": "contract_ends"}}
    )
    await orchestrator.publish(text)
    await events.raise_event(
        "default", NewCompellingEvent("contract_ends", "contact", "ada", "deal-7"), "test"
    )
    await consume_events(orchestrator, scoring)
    await events.withdraw("default", "deal-7")
    await consume_events(orchestrator, scoring)
    orchestrator.clock.instant = NOW + 2 * DAY

    await orchestrator.run_due()

    assert await orchestrator.fetch("SELECT status, reason FROM orchestrator.enrollments") == [
        ("exited", "event withdrawn")
    ]
    assert mailbox.mails == []
    with pytest.raises(Conflict, match="withdrawn"):
        await events.withdraw("default", "deal-7")


async def test_withdrawn_event_sends_nothing(orchestrator, scoring, events, mailbox):
    await make_contacts(orchestrator, ["ada", "bob"])
    await orchestrator.publish(play([mail()], "tax", trigger={"compelling_event": {"kind": "tax"}}))
    await events.raise_event("default", NewCompellingEvent("tax", "market", event_id="t-1"), "test")
    await events.withdraw("default", "t-1")

    await consume_events(orchestrator, scoring)

    assert await orchestrator.action_states() == []

    await orchestrator.play_service.set_channel_stopped("default", "email", "ops", on=True)
    await events.raise_event("default", NewCompellingEvent("tax", "market", event_id="t-2"), "test")
    await consume_events(orchestrator, scoring)
    assert await orchestrator.action_states() == [("held", "kill_switch")] * 2

    await events.withdraw("default", "t-2")
    await consume_events(orchestrator, scoring)
    await orchestrator.play_service.set_channel_stopped("default", "email", "ops", on=False)
    await orchestrator.run_due()

    assert await orchestrator.action_states() == [("skipped", "event withdrawn")] * 2
    assert mailbox.mails == []


async def test_account_and_market_events_reach_their_contacts(
    orchestrator, scoring, events, mailbox
):
    await make_contacts(orchestrator, ["ada", "bob", "eve"], traits={"country": "FR"})
    await make_contacts(orchestrator, [f"p{number}" for number in range(450)])
    groups = [
        touchpoint(HOUR, "", number=f"g{n}", user_id=n, type="group", group_id="acme")
        for n in ("ada", "bob")
    ]
    await scoring.ingest(groups)
    await read_published(scoring)
    trigger = {"compelling_event": {"kind": "funding"}}
    await orchestrator.publish(play([mail()], "funding", trigger=trigger))
    await events.raise_event("default", NewCompellingEvent("funding", "account", "acme"), "test")

    await consume_events(orchestrator, scoring)

    assert sorted(mailbox.recipients) == ["ada@x.test", "bob@x.test"]

    tax = play(
        [mail("tax")],
        "tax",
        trigger={"compelling_event": {"kind": "tax"}},
        entry={"trait": "country", "equals": "FR"},
    )
    await orchestrator.publish(tax)
    await events.raise_event("default", NewCompellingEvent("tax", "market"), "test")
    await consume_events(orchestrator, scoring)

    assert sorted(mailbox.recipients[2:]) == ["ada@x.test", "bob@x.test", "eve@x.test"]
    assert await orchestrator.fetch("SELECT count(*) FROM orchestrator.sweeps") == [(0,)]


async def test_sweep_resumes_and_waits_for_paused_play(orchestrator, scoring, events, mailbox):
    await make_contacts(orchestrator, [f"p{number}" for number in range(450)])
    await orchestrator.publish(play([mail()], "tax", trigger={"compelling_event": {"kind": "tax"}}))
    await events.raise_event("default", NewCompellingEvent("tax", "market"), "test")
    await orchestrator.consume(
        await read_published(scoring, "compelling-events"), "compelling-events"
    )

    await orchestrator.sweeps.advance_sweep()

    assert await orchestrator.fetch("SELECT entered FROM orchestrator.sweeps") == [(200,)]

    await orchestrator.play_service.set_paused("default", "tax", on=True)
    assert not await orchestrator.sweeps.advance_sweep()

    await orchestrator.play_service.set_paused("default", "tax", on=False)
    while await orchestrator.sweeps.advance_sweep():
        pass

    assert await orchestrator.fetch(
        "SELECT count(*), count(DISTINCT contact_id) FROM orchestrator.enrollments"
    ) == [(450, 450)]


async def test_signals_and_axes_raise_events(orchestrator, database, mailbox):
    """A signal raises an event with the date of a property; a stage of an axis raises one too."""
    raw = yaml.safe_load((PROJECT / "cycles" / "engagement.yaml").read_text())
    raw["signals"]["quote_requested"]["raises"] = {
        "kind": "quote",
        "owner": "sales",
        "date": "valid_until",
    }
    comparing = {
        "name": "comparing",
        "enter": {"count": "pricing_viewed", "within": "7d", "at_least": 3},
        "raises": {"kind": "compares"},
    }
    raw["axes"].append({"name": "urgency", "stages": [{"name": "calm"}, comparing]})
    scoring = Scoring(database, [build_cycle(parse_cycle_spec(yaml.safe_dump(raw), "test.yaml"))])
    await scoring.ingest([identify(0, consent={"marketing": True}, traits={"email": "ada@x.test"})])
    pages = [
        touchpoint(HOUR * hour, "Pricing", number=hour, user_id="u", type="page")
        for hour in (1, 2, 3, 4)
    ]
    await scoring.ingest(pages)
    quote = touchpoint(
        5 * HOUR,
        "Quote Requested",
        number="q",
        user_id="u",
        properties={"valid_until": "2099-01-01"},
    )
    await scoring.ingest([quote])
    await scoring.ingest([quote])
    await orchestrator.consume(await read_published(scoring))
    for kind in ("quote", "compares"):
        trigger = {"compelling_event": {"kind": kind}}
        await orchestrator.publish(play([mail(kind)], kind, trigger=trigger))

    values = await read_published(scoring, "compelling-events")

    assert len(values) == 2, "an event was raised twice"

    await orchestrator.consume(values, "compelling-events")
    await orchestrator.run_due()
    assert sorted(await orchestrator.fetch("SELECT play, status FROM orchestrator.actions")) == [
        ("compares", "sent"),
        ("quote", "sent"),
    ]

    rows = await scoring.fetch(
        "SELECT event::json->>'owner', next_at IS NULL FROM scoring.compelling_events ORDER BY 1"
    )

    assert rows == [("", True), ("sales", False)]

    await scoring.close()


async def test_invalid_event_is_refused_with_reason(orchestrator, events):
    await make_contacts(orchestrator, ["ada"])

    with pytest.raises(NotFound, match="nobody"):
        await events.raise_event("default", NewCompellingEvent("x", "contact", "nobody"), "test")
    with pytest.raises(ConfigurationError, match="names its subject"):
        await events.raise_event("default", NewCompellingEvent("x", "market", "ada"), "test")
    with pytest.raises(ConfigurationError, match="has passed"):
        await events.raise_event(
            "default", NewCompellingEvent("x", "contact", "ada", date=NOW - 1), "test"
        )

    await events.raise_event("default", NewCompellingEvent("x", "contact", "ada", "e-1"), "test")

    with pytest.raises(Conflict, match="already"):
        await events.raise_event(
            "default", NewCompellingEvent("x", "contact", "ada", "e-1"), "test"
        )
    with pytest.raises(NotFound):
        await events.withdraw("default", "e-2")
    assert [event.kind for event in await events.list_open("default", "ada", 10)] == ["x"]
