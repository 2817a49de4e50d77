"""Subscriptions as an operator manages them."""

import pytest
from standardwebhooks.webhooks import Webhook

from libs.common.clock import FixedClock, SystemClock
from libs.common.errors import ConfigurationError, Conflict, NotFound
from libs.common.instants import DAY, SECOND
from libs.common.messages.message_filter import MessageFilter


async def test_given_up_and_delivered_messages_can_be_resent(harness, receiver):
    receiver.respond = lambda payload: (400 if payload["data"]["contact_id"] == "a" else 200, {})
    await harness.create(await receiver.start())
    await harness.publish("a")
    for _ in range(20):
        await harness.publish("b")  # other contacts' messages pass, so the receiver is not down
        await harness.deliver_all()
        harness.clock.instant += DAY

    subscription = await harness.service.get("default", "crm")

    assert (subscription.backlog.given_up, subscription.backlog.waiting) == (1, 0)

    receiver.respond, receiver.seen = (lambda _: (200, {})), []
    await harness.publish("a")
    await harness.deliver_all()
    assert receiver.webhook_ids == ["a-2"]  # later messages pass

    await harness.service.resend("default", "crm", message=None, since=None)
    await harness.service.resend("default", "crm", message="b-3", since=None)
    await harness.deliver_all()
    assert sorted(receiver.webhook_ids) == ["a-1", "a-2", "b-3"]
    with pytest.raises(NotFound, match="delivery log"):
        await harness.service.resend("default", "crm", message="z", since=None)

    receiver.seen = []
    await harness.service.resend("default", "crm", message=None, since=0)
    await harness.deliver_all()

    assert len(receiver.webhook_ids) == 22


async def test_old_secret_signs_during_overlap(harness, receiver):
    harness.clock = FixedClock(SystemClock().now())
    first_secret = (await harness.create(await receiver.start())).secret
    second_secret = (await harness.service.rotate_secret("default", "crm", 3_600 * SECOND)).secret
    await harness.publish("a")
    await harness.deliver_all()

    headers, body = receiver.seen[0]

    assert Webhook(first_secret).verify(body.decode(), headers) == Webhook(second_secret).verify(
        body.decode(), headers
    )
    assert len(headers["webhook-signature"].split()) == 2


async def test_resend_since_skips_no_unread_message(harness, receiver):
    await harness.create(await receiver.start())
    await harness.service.pause("default", "crm")
    sent = await harness.publish("a", "b")
    later = SystemClock().now()
    sent += await harness.publish("c")
    await harness.service.resume("default", "crm")
    await harness.service.resend("default", "crm", message=None, since=later)

    await harness.deliver_all()

    assert sorted(receiver.webhook_ids) == sorted(sent)


async def test_paused_subscription_keeps_its_position(harness, receiver):
    await harness.create(await receiver.start())
    await harness.service.pause("default", "crm")
    sent = await harness.publish("a", "b")

    await harness.deliver_all()

    assert receiver.seen == []

    await harness.service.resume("default", "crm")
    await harness.deliver_all()

    assert sorted(receiver.webhook_ids) == sorted(sent)


async def test_invalid_subscription_requests_are_refused(harness, receiver):
    url = await receiver.start()
    await harness.create(url)

    with pytest.raises(Conflict, match="already"):
        await harness.create(url)
    with pytest.raises(ConfigurationError, match="user name"):
        await harness.create("https://me@crm.example/", "b")
    with pytest.raises(ConfigurationError, match="no slash"):
        await harness.create(url, "a/b")

    for operation in (
        harness.service.get,
        harness.service.pause,
        harness.service.resume,
        harness.service.delete,
    ):
        with pytest.raises(NotFound, match="there are crm"):
            await operation("default", "nope")
        with pytest.raises(NotFound, match="there are none"):
            await operation("other", "crm")
    await harness.service.delete("default", "crm")

    assert await harness.service.list_subscriptions("default") == []


async def test_subscription_starts_now_or_at_beginning(harness, receiver):
    url = await receiver.start()
    await harness.publish("a")
    await harness.create(url)
    await harness.service.create("default", "archive", url, MessageFilter(), beginning=True)
    await harness.publish("b")

    await harness.deliver_all(1)

    assert receiver.webhook_ids == ["b-1"]

    await harness.deliver_all(2)

    assert receiver.webhook_ids == ["b-1", "a-1", "b-1"]
