"""Webhook delivery: order, retries, and slow, dead and malformed receivers."""

import asyncio

import msgspec
from standardwebhooks.webhooks import Webhook

from libs.common.instants import DAY, SECOND
from tests.integration.webhooks.harness import PLAIN, sequences_by_contact


async def test_webhook_is_signed_and_delivered_once(harness, receiver):
    subscription = await harness.create(await receiver.start())
    sent = await harness.publish("a", "b", "a", "c")

    await harness.deliver_all()

    assert sorted(receiver.webhook_ids) == sorted(sent)
    assert sequences_by_contact(receiver.payloads) == {"a": [1, 2], "b": [1], "c": [1]}

    for headers, body in receiver.seen:
        payload = Webhook(subscription.secret).verify(body.decode(), headers)
        assert (payload["type"], payload["timestamp"][:4]) == ("perigee.stage_change.v1", "2026")
        assert payload["data"]["crm"]["hubspot"] == "salesqualifiedlead"
    await harness.deliver_all()
    assert len(receiver.seen) == 4

    view = await harness.service.get("default", "crm")

    assert [attempt.status for attempt in view.attempts] == [200] * 4
    assert (view.backlog.unread, view.secret) == (0, None)


async def test_filter_and_workspace_limit_deliveries(harness, receiver):
    await harness.create(await receiver.start(), stages=("lead",))
    await harness.publish("a")
    await harness.publish("b", stage=msgspec.structs.replace(PLAIN.stage, to="lead"))
    await harness.publish(
        "c", stage=msgspec.structs.replace(PLAIN.stage, to="lead"), workspace="other"
    )

    await harness.deliver_all()

    assert receiver.webhook_ids == ["b-1"]


async def test_rejected_message_blocks_only_its_contact(harness, receiver):
    receiver.respond = lambda payload: (500 if payload["data"]["contact_id"] == "a" else 200, {})
    await harness.create(await receiver.start())
    await harness.publish("a", "b", "a", "b")

    await harness.deliver_all()

    assert sequences_by_contact(receiver.payloads) == {"a": [1], "b": [1, 2]}

    await harness.publish("a", "b")
    await harness.deliver_all()
    assert sequences_by_contact(receiver.payloads) == {"a": [1], "b": [1, 2, 3]}
    assert (await harness.service.get("default", "crm")).backlog.waiting == 3

    receiver.respond = lambda _: (200, {})
    harness.clock.instant += 6 * SECOND
    await harness.deliver_all()

    assert sequences_by_contact(receiver.payloads) == {"a": [1, 2, 3], "b": [1, 2, 3]}
    assert (await harness.service.get("default", "crm")).backlog.waiting == 0


async def test_outage_of_six_days_keeps_order(harness, receiver):
    url = await receiver.start()
    await receiver.stop()
    await harness.create(url)
    sent = []
    for _ in range(6 * 24):
        sent += await harness.publish("a", "b", "c")
        await harness.deliver_all()
        harness.clock.instant += 3_600 * SECOND

    subscription = await harness.service.get("default", "crm")

    assert subscription.status == "active"
    assert len(subscription.attempts) == 50

    await receiver.start(int(url.split(":")[2].split("/")[0]))
    for _ in range(10):
        await harness.deliver_all()
        harness.clock.instant += 600 * SECOND
    assert sorted(set(receiver.webhook_ids)) == sorted(sent)
    assert all(
        numbers == sorted(numbers) for numbers in sequences_by_contact(receiver.payloads).values()
    )

    subscription = await harness.service.get("default", "crm")

    assert (subscription.backlog.waiting, subscription.backlog.unread, subscription.failures) == (
        0,
        0,
        0,
    )


async def test_outage_of_seven_days_disables_without_loss(harness, receiver):
    url = await receiver.start()
    await receiver.stop()
    await harness.create(url)
    sent = await harness.publish("a", "b", "c", "d", "e", "f")
    for _ in range(9):
        await harness.deliver_all()
        harness.clock.instant += DAY

    subscription = await harness.service.get("default", "crm")

    assert (subscription.status, subscription.reason) == (
        "disabled",
        "the receiver has taken nothing for 7 days",
    )

    sent += await harness.publish("a")
    await receiver.start(int(url.split(":")[2].split("/")[0]))
    await harness.deliver_all()
    assert receiver.seen == []

    await harness.service.resume("default", "crm")
    await harness.deliver_all()

    assert sorted(set(receiver.webhook_ids)) == sorted(sent)


async def test_410_disables_and_retry_after_delays(harness, receiver):
    receiver.respond = lambda _: (429, {"Retry-After": "120"})
    await harness.create(await receiver.start())
    await harness.publish("a")
    await harness.deliver_all()
    receiver.respond = lambda _: (410, {})
    harness.clock.instant += 119 * SECOND

    await harness.deliver_all()

    assert len(receiver.seen) == 1

    harness.clock.instant += 2 * SECOND
    await harness.deliver_all()
    subscription = await harness.service.get("default", "crm")

    assert (len(receiver.seen), subscription.status, "410" in subscription.reason) == (
        2,
        "disabled",
        True,
    )
    assert subscription.backlog.waiting == 1


async def test_hanging_receiver_gets_few_attempts(harness, receiver, monkeypatch):
    monkeypatch.setattr("services.orchestrator.webhooks.http_client.REQUEST_TIMEOUT_SECONDS", 0.2)
    receiver.respond = lambda _: 30.0
    await harness.create(await receiver.start())
    sent = await harness.publish(*(f"c{number}" for number in range(100)))
    await asyncio.wait_for(harness.deliver_all(), 5)

    subscription = await harness.service.get("default", "crm")

    assert (
        len(subscription.attempts) < 20,
        subscription.backlog.waiting,
        subscription.failures,
    ) == (True, 100, 5)

    receiver.respond = lambda _: (200, {})
    harness.clock.instant += 6 * SECOND
    await harness.deliver_all()
    await harness.deliver_all()

    assert sorted(receiver.webhook_ids) == sorted(sent)


async def test_contacts_rejected_for_days_block_no_other(harness, receiver):
    """Five failed contacts look like an outage until another contact's message passes."""
    rejected_contacts = tuple(f"bad-{number}" for number in range(7))
    receiver.respond = lambda payload: (
        422 if payload["data"]["contact_id"] in rejected_contacts else 200,
        {},
    )
    await harness.create(await receiver.start())
    await harness.publish(*rejected_contacts)
    delivered = []
    for number in range(9 * 24):
        delivered += await harness.publish(f"good-{number}")
        for _ in range(3):
            await harness.deliver_all()
            harness.clock.instant += 1_200 * SECOND

    subscription = await harness.service.get("default", "crm")

    assert (subscription.status, subscription.backlog.given_up, subscription.backlog.waiting) == (
        "active",
        7,
        0,
    )
    assert set(receiver.webhook_ids) >= set(delivered)


async def test_malformed_responses_do_not_stop_delivery(harness, receiver):
    answers = [
        (500, {"Retry-After": "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"}),
        (500, {"X": "\0"}),
        (503, {"Retry-After": "Mon, 01 Jan 1601 00:00:00 GMT"}),
    ]
    receiver.respond = lambda _: answers[len(receiver.seen) % 3]
    receiver.text = b"a\0b\xff"
    await harness.create(await receiver.start())
    sent = await harness.publish("a", "b", "c")

    await harness.deliver_all()

    assert (await harness.service.get("default", "crm")).backlog.waiting == 3

    receiver.respond = lambda _: (200, {})
    harness.clock.instant += 60 * SECOND
    await harness.deliver_all()

    assert set(receiver.webhook_ids) == set(sent)
