"""Ad audiences: contacts are added at a drop-off, removed on return, never without consent."""

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
        "action": op,
        "channel": "audience",
        "destination": "ads",
        "audience": {"name": "lost", "op": op, **more},
    }


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
    receiver = WebhookReceiver()
    yield receiver
    await receiver.stop()


@pytest.fixture
async def enter_retargeting(orchestrator, advertiser):
    """Contact with a failed checkout in the published play."""

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
    destination = {
        "destination": "ads",
        "channel": "audience",
        "url": await advertiser.start(),
        "secret": SECRET,
    }
    await orchestrator.definitions.define(
        "default", "destination", yaml.safe_dump(destination), "test", "ads.yaml"
    )


async def buy(orchestrator):
    """Let ada buy, by scoring and its published messages."""
    scoring = Scoring(orchestrator.database)
    await scoring.ingest([touchpoint(HOUR, "Order Completed", number="o", user_id="ada")])
    await orchestrator.consume(await read_published(scoring, "stage-changes"), "stage-changes")
    await orchestrator.consume(await read_published(scoring))
    await scoring.close()
    await orchestrator.run_due()


def audience_changes(advertiser):
    return [(payload["op"], payload["audience"]) for payload in advertiser.payloads]


async def test_contact_is_added_on_drop_removed_on_return(
    orchestrator, advertiser, enter_retargeting
):
    contact = await enter_retargeting(SystemClock().now())
    ((headers, body),) = advertiser.seen

    message = Webhook(SECRET).verify(body.decode(), headers)

    assert message["type"] == "perigee.audience.v1"
    assert message["data"] == {
        "audience": "lost",
        "op": "add",
        "contact_id": contact,
        "email_sha256": sha256(b"ada@x.test").hexdigest(),
    }
    assert b"ada@x.test" not in body, "the body contains the address"

    await buy(orchestrator)

    assert audience_changes(advertiser) == [("add", "lost"), ("remove", "lost")]


async def test_return_before_addition_sends_nothing(orchestrator, advertiser, enter_retargeting):
    await orchestrator.play_service.set_channel_stopped("default", "audience", "ops", on=True)
    await enter_retargeting()

    assert await orchestrator.action_states() == [("held", "kill_switch")]

    await buy(orchestrator)
    await orchestrator.play_service.set_channel_stopped("default", "audience", "ops", on=False)
    await orchestrator.run_due()

    assert sorted(await orchestrator.action_states()) == [
        ("skipped", "never added"),
        ("skipped", "taken out"),
    ]
    assert advertiser.seen == []


async def test_doubtful_addition_is_removed(orchestrator, advertiser, enter_retargeting):
    advertiser.respond = lambda payload: (503, {}) if payload["data"]["op"] == "add" else (200, {})
    await enter_retargeting()

    assert audience_changes(advertiser) == [("add", "lost")]

    await buy(orchestrator)
    orchestrator.clock.instant += HOUR
    await orchestrator.run_due()

    assert audience_changes(advertiser) == [("add", "lost"), ("remove", "lost")], (
        "the contact was added again"
    )
    assert sorted(status for status, _ in await orchestrator.action_states()) == ["sent", "skipped"]


async def test_withdrawn_consent_removes_and_prevents_addition(
    orchestrator, advertiser, enter_retargeting
):
    contact = await enter_retargeting()
    await orchestrator.consume([signal_message(contact, "consent_withdrawn", NOW + 1, 1)])

    await orchestrator.run_due()

    assert audience_changes(advertiser) == [("add", "lost"), ("remove", "lost")]

    await orchestrator.consume([signal_message(contact, "checkout_failed", NOW + 2, 2)])
    await orchestrator.run_due()
    assert audience_changes(advertiser) == [("add", "lost"), ("remove", "lost")]

    later = {status for status, _ in await orchestrator.action_states()} - {"sent"}

    assert later and later <= {"suppressed", "skipped"}


async def test_contact_is_removed_at_timeout(orchestrator, advertiser, enter_retargeting):
    await enter_retargeting()
    orchestrator.clock.instant = NOW + 91 * DAY

    await orchestrator.run_due()

    assert audience_changes(advertiser) == [("add", "lost"), ("remove", "lost")]
    assert len({json.loads(body)["id"] for _, body in advertiser.seen}) == 2


async def test_removal_uses_address_of_addition(orchestrator, advertiser, enter_retargeting):
    await enter_retargeting()
    scoring = Scoring(orchestrator.database)
    await scoring.ingest(
        [identify(HOUR, "ada", None, number="new", traits={"email": "ada@new.test"})]
    )
    await scoring.close()

    await buy(orchestrator)

    assert [payload["email_sha256"] for payload in advertiser.payloads] == [
        sha256(b"ada@x.test").hexdigest()
    ] * 2


async def test_late_addition_does_not_follow_removal(orchestrator, advertiser):
    """After any outage of the advertiser the last delivery is the removal."""
    advertiser.respond = lambda _: (503, {})
    await define(orchestrator, advertiser)
    ids = await make_contacts(orchestrator, ["ada"])
    steps = [step("add"), {"wait": "1h"}, step("remove")]
    await orchestrator.publish(play(steps, "brief", trigger={"signal": "checkout_failed"}))
    await orchestrator.consume([signal_message(ids["ada"], "checkout_failed", at=NOW)])

    for minute in range(0, 130, 10):
        orchestrator.clock.instant = NOW + minute * MINUTE
        if minute == 90:
            advertiser.respond = lambda _: (200, {})
            advertiser.seen.clear()
        await orchestrator.run_due()

    assert audience_changes(advertiser)[-1] == ("remove", "lost")
    assert ("add", "lost") not in audience_changes(advertiser)
    assert sorted(status for status, _ in await orchestrator.action_states()) == ["sent", "skipped"]


async def test_failed_addition_is_not_retried_after_removal(
    orchestrator, advertiser, enter_retargeting
):
    await enter_retargeting()
    await orchestrator.fetch(
        "UPDATE orchestrator.actions SET status = 'failed' WHERE step = 'add' RETURNING 1"
    )

    await buy(orchestrator)

    assert audience_changes(advertiser) == [("add", "lost"), ("remove", "lost")]

    ((action,),) = await orchestrator.fetch(
        "SELECT action_id FROM orchestrator.actions WHERE step = 'add'"
    )

    with pytest.raises(Conflict):
        await orchestrator.action_ledger.resolve_action("default", action, "retry", "ops")
