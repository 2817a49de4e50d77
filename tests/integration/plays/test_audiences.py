"""Audiences of an advertiser: added when somebody falls back, taken out at once when they return; never without consent."""

import json
from hashlib import sha256

import pytest
import yaml
from standardwebhooks.webhooks import Webhook

from libs.common.clock import SystemClock
from libs.common.errors import Conflict
from libs.common.instants import MINUTE
from services.orchestrator.webhooks.standard_webhooks import encode_secret
from tests.integration.plays.contacts import make_contacts, read_published, signal_message
from tests.integration.plays.play_texts import NOW, play
from tests.support.scoring import Scoring
from tests.support.touchpoints import DAY, HOUR, identify, touchpoint
from tests.support.webhook_receiver import WebhookReceiver

SECRET = encode_secret(bytes(range(32)))
BACK = {"any": [{"stage": ["customer", "member"]}, {"consent": "marketing", "given": False}]}


def step(op, **more):
    return {
        "action": op, "channel": "audience", "destination": "ads", "audience": {"name": "lost", "op": op, **more},
    }  # fmt: skip


RETARGETING = play(
    [
        step("add", member={"not": {"stage": ["customer", "member"]}}),
        {"wait_until": {"when": BACK, "timeout": "90d"}},
        step("remove"),
    ],
    "retargeting",
    trigger={"signal": "checkout_failed"},
    re_entry="after_exit",
)


@pytest.fixture
async def advertiser():
    found = WebhookReceiver()
    yield found
    await found.stop()


@pytest.fixture
async def lost(orchestrator, advertiser):
    """Somebody whose checkout failed, and the play."""

    async def begin(at=NOW):
        orchestrator.clock.instant = at
        await define(orchestrator, advertiser)
        ids = await make_contacts(orchestrator, ["ada"])
        await orchestrator.publish(RETARGETING)
        await orchestrator.consume([signal_message(ids["ada"], "checkout_failed", at=at)])
        await orchestrator.run_due()
        return ids["ada"]

    return begin


async def define(orchestrator, advertiser):
    place = {
        "destination": "ads",
        "channel": "audience",
        "url": await advertiser.start(),
        "secret": SECRET,
    }
    await orchestrator.definitions.define(
        "default", "destination", yaml.safe_dump(place), "test", "ads.yaml"
    )


async def buys(orchestrator):
    """She buys, as scoring sees it."""
    scoring = Scoring(orchestrator.database)
    await scoring.ingest([touchpoint(HOUR, "Order Completed", number="o", user_id="ada")])
    await orchestrator.consume(await read_published(scoring, "stage-changes"), "stage-changes")
    await orchestrator.consume(await read_published(scoring))
    await scoring.close()
    await orchestrator.run_due()


def told(advertiser):
    return [(one["op"], one["audience"]) for one in advertiser.payloads]


async def test_added_on_drop_and_removed_at_once_on_return(orchestrator, advertiser, lost):
    contact = await lost(SystemClock().now())
    ((headers, body),) = advertiser.seen
    message = Webhook(SECRET).verify(body.decode(), headers)
    assert message["type"] == "perigee.audience.v1"
    assert message["data"] == {
        "audience": "lost", "op": "add", "contact_id": contact, "email_sha256": sha256(b"ada@x.test").hexdigest(),
    }  # fmt: skip
    assert b"ada@x.test" not in body, "the address itself is nobody's"
    await buys(orchestrator)
    assert told(advertiser) == [("add", "lost"), ("remove", "lost")]


async def test_who_returns_before_the_advertiser_heard_of_them_is_never_told_of(
    orchestrator, advertiser, lost
):
    await orchestrator.desk.set_channel_stopped("default", "audience", "ops", on=True)
    await lost()
    assert await orchestrator.action_states() == [("held", "kill_switch")]
    await buys(orchestrator)
    await orchestrator.desk.set_channel_stopped("default", "audience", "ops", on=False)
    await orchestrator.run_due()
    assert sorted(await orchestrator.action_states()) == [
        ("skipped", "never added"),
        ("skipped", "taken out"),
    ]
    assert advertiser.seen == []


async def test_an_addition_that_may_have_arrived_is_taken_back(orchestrator, advertiser, lost):
    advertiser.answering = lambda told: (503, {}) if told["data"]["op"] == "add" else (200, {})
    await lost()
    assert told(advertiser) == [("add", "lost")]
    await buys(orchestrator)
    orchestrator.clock.instant += HOUR
    await orchestrator.run_due()
    assert told(advertiser) == [("add", "lost"), ("remove", "lost")], "and it is not added again"
    assert sorted(status for status, _ in await orchestrator.action_states()) == ["sent", "skipped"]


async def test_nobody_is_added_without_consent_and_who_withdraws_it_is_taken_out(
    orchestrator, advertiser, lost
):
    contact = await lost()
    await orchestrator.consume([signal_message(contact, "consent_withdrawn", NOW + 1, 1)])
    await orchestrator.run_due()
    assert told(advertiser) == [("add", "lost"), ("remove", "lost")]
    await orchestrator.consume([signal_message(contact, "checkout_failed", NOW + 2, 2)])
    await orchestrator.run_due()
    assert told(advertiser) == [("add", "lost"), ("remove", "lost")]
    later = {status for status, _ in await orchestrator.action_states()} - {"sent"}
    assert later and later <= {"suppressed", "skipped"}


async def test_whoever_never_returns_is_taken_out_when_the_time_is_over(
    orchestrator, advertiser, lost
):
    await lost()
    orchestrator.clock.instant = NOW + 91 * DAY
    await orchestrator.run_due()
    assert told(advertiser) == [("add", "lost"), ("remove", "lost")]
    assert len({json.loads(body)["id"] for _, body in advertiser.seen}) == 2


async def test_who_is_taken_out_is_named_as_they_were_when_they_were_added(
    orchestrator, advertiser, lost
):
    await lost()
    scoring = Scoring(orchestrator.database)
    await scoring.ingest(
        [identify(HOUR, "ada", None, number="new", traits={"email": "ada@new.test"})]
    )
    await scoring.close()
    await buys(orchestrator)
    assert [one["email_sha256"] for one in advertiser.payloads] == [
        sha256(b"ada@x.test").hexdigest()
    ] * 2


async def test_an_addition_that_is_late_adds_nobody_who_was_taken_out(orchestrator, advertiser):
    """However long the advertiser was away: the last word is that somebody is out."""
    advertiser.answering = lambda _: (503, {})
    await define(orchestrator, advertiser)
    ids = await make_contacts(orchestrator, ["ada"])
    steps = [step("add"), {"wait": "1h"}, step("remove")]
    await orchestrator.publish(play(steps, "brief", trigger={"signal": "checkout_failed"}))
    await orchestrator.consume([signal_message(ids["ada"], "checkout_failed", at=NOW)])
    for minute in range(0, 130, 10):
        orchestrator.clock.instant = NOW + minute * MINUTE
        if minute == 90:
            advertiser.answering = lambda _: (200, {})
            advertiser.seen.clear()
        await orchestrator.run_due()
    assert told(advertiser)[-1] == ("remove", "lost")
    assert ("add", "lost") not in told(advertiser)
    assert sorted(status for status, _ in await orchestrator.action_states()) == ["sent", "skipped"]


async def test_an_addition_that_failed_is_not_let_go_after_the_removal(
    orchestrator, advertiser, lost
):
    await lost()
    await orchestrator.fetch(
        "UPDATE orchestrator.actions SET status = 'failed' WHERE step = 'add' RETURNING 1"
    )
    await buys(orchestrator)
    assert told(advertiser) == [("add", "lost"), ("remove", "lost")]
    ((action,),) = await orchestrator.fetch(
        "SELECT action_id FROM orchestrator.actions WHERE step = 'add'"
    )
    with pytest.raises(Conflict):
        await orchestrator.ledger_desk.resolve_action("default", action, "retry", "ops")
