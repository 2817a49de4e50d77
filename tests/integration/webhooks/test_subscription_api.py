"""What an operator does with a subscription."""

import pytest
from standardwebhooks.webhooks import Webhook

from libs.common.clock import FixedClock, SystemClock
from libs.common.errors import ConfigurationError, Conflict, NotFound
from libs.common.instants import DAY, SECOND
from libs.common.messages.message_filter import MessageFilter


async def test_what_is_given_up_can_be_sent_again_and_so_can_everything(bench, receiver):
    receiver.answering = lambda told: (400 if told["data"]["contact_id"] == "a" else 200, {})
    await bench.create(await receiver.start())
    await bench.publish("a")
    for _ in range(20):
        await bench.publish("b")  # others go through, so the receiver is not down
        await bench.turns()
        bench.clock.instant += DAY
    shown = await bench.desk.get("default", "crm")
    assert (shown.backlog.given_up, shown.backlog.waiting) == (1, 0)
    receiver.answering, receiver.seen = (lambda _: (200, {})), []
    await bench.publish("a")
    await bench.turns()
    assert receiver.webhook_ids == ["a-2"]  # what comes later goes on
    await bench.desk.resend("default", "crm", message=None, since=None)
    await bench.desk.resend("default", "crm", message="b-3", since=None)
    await bench.turns()
    assert sorted(receiver.webhook_ids) == ["a-1", "a-2", "b-3"]
    with pytest.raises(NotFound, match="delivery log"):
        await bench.desk.resend("default", "crm", message="z", since=None)
    receiver.seen = []
    await bench.desk.resend("default", "crm", message=None, since=0)
    await bench.turns()
    assert len(receiver.webhook_ids) == 22


async def test_a_rotated_secret_signs_beside_the_old_one_for_a_while(bench, receiver):
    bench.clock = FixedClock(SystemClock().now())
    first = (await bench.create(await receiver.start())).secret
    second = (await bench.desk.rotate_secret("default", "crm", 3_600 * SECOND)).secret
    await bench.publish("a")
    await bench.turns()
    headers, body = receiver.seen[0]
    assert Webhook(first).verify(body.decode(), headers) == Webhook(second).verify(
        body.decode(), headers
    )
    assert len(headers["webhook-signature"].split()) == 2


async def test_resend_since_never_skips_what_was_not_read(bench, receiver):
    await bench.create(await receiver.start())
    await bench.desk.pause("default", "crm")
    sent = await bench.publish("a", "b")
    later = SystemClock().now()
    sent += await bench.publish("c")
    await bench.desk.resume("default", "crm")
    await bench.desk.resend("default", "crm", message=None, since=later)
    await bench.turns()
    assert sorted(receiver.webhook_ids) == sorted(sent)


async def test_a_paused_one_keeps_its_place(bench, receiver):
    await bench.create(await receiver.start())
    await bench.desk.pause("default", "crm")
    sent = await bench.publish("a", "b")
    await bench.turns()
    assert receiver.seen == []
    await bench.desk.resume("default", "crm")
    await bench.turns()
    assert sorted(receiver.webhook_ids) == sorted(sent)


async def test_what_an_operator_gets_wrong_is_said(bench, receiver):
    url = await receiver.start()
    await bench.create(url)
    with pytest.raises(Conflict, match="already"):
        await bench.create(url)
    with pytest.raises(ConfigurationError, match="user name"):
        await bench.create("https://me@crm.example/", "b")
    with pytest.raises(ConfigurationError, match="no slash"):
        await bench.create(url, "a/b")
    for act in (bench.desk.get, bench.desk.pause, bench.desk.resume, bench.desk.delete):
        with pytest.raises(NotFound, match="there are crm"):
            await act("default", "nope")
        with pytest.raises(NotFound, match="there are none"):
            await act("other", "crm")
    await bench.desk.delete("default", "crm")
    assert await bench.desk.list_subscriptions("default") == []


async def test_it_begins_now_or_with_the_beginning(bench, receiver):
    url = await receiver.start()
    await bench.publish("a")
    await bench.create(url)
    await bench.desk.create("default", "archive", url, MessageFilter(), beginning=True)
    await bench.publish("b")
    await bench.turns(1)
    assert receiver.webhook_ids == ["b-1"]
    await bench.turns(2)
    assert receiver.webhook_ids == ["b-1", "a-1", "b-1"]
