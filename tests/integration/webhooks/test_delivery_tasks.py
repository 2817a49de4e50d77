"""Delivery processes: side by side, stopped, taken over."""

import asyncio

from tests.integration.webhooks.harness import DeliveryHarness
from tests.support.waiting import wait_until
from tests.support.webhook_receiver import WebhookReceiver


async def test_slow_receiver_delays_no_other(harness, receiver):
    slow = WebhookReceiver(lambda _: 0.2)
    await harness.create(await slow.start(), "slow")
    await harness.create(await receiver.start(), "quick")
    for _ in range(20):
        await harness.publish(*"abcdefghij")
    running = asyncio.create_task(harness.webhooks().run(harness.stop))

    await wait_until(lambda: len(set(receiver.webhook_ids)) == 200)

    assert len(slow.seen) < 100  # 200 take 5 s, 8 at once
    assert slow.max_concurrent <= 8

    harness.stop.set()
    await running
    await slow.stop()


async def test_unexpected_error_stops_one_subscription(harness, receiver):
    url = await receiver.start()
    await harness.create(url, "broken")
    await harness.create(url, "well")
    deliver_round = harness.delivering.deliver_round

    async def failing_round(number, leaving=None):
        if number == 1:
            raise RuntimeError("a bug")
        return await deliver_round(number, leaving)

    harness.delivering.deliver_round = failing_round
    running = asyncio.create_task(harness.webhooks().run(harness.stop))
    sent = await harness.publish("a")
    await wait_until(lambda: receiver.webhook_ids == sent)
    harness.stop.set()
    await asyncio.wait_for(running, 20)


async def test_delivered_messages_are_not_resent_after_stop(harness, receiver):
    receiver.respond = lambda _: 0.1
    await harness.create(await receiver.start())
    await harness.publish(*(f"c{number}" for number in range(150)))
    running = asyncio.create_task(harness.webhooks().run(harness.stop))
    await wait_until(lambda: len(receiver.seen) >= 20)
    harness.stop.set()

    await asyncio.wait_for(running, 20)

    assert 20 <= len(receiver.seen) < 100

    receiver.respond = lambda _: (200, {})
    await harness.deliver_all()

    assert len(receiver.webhook_ids) == len(set(receiver.webhook_ids)) == 150


async def test_second_process_takes_over_subscriptions(harness, database):
    other_harness = DeliveryHarness(database)
    receivers = [WebhookReceiver() for _ in range(4)]
    for number, receiver in enumerate(receivers):
        await harness.create(await receiver.start(), f"s{number}")
    harness.clock = other_harness.clock
    first_tasks, second_tasks = harness.webhooks(), other_harness.webhooks()
    running = [
        asyncio.create_task(first_tasks.run(harness.stop)),
        asyncio.create_task(second_tasks.run(other_harness.stop)),
    ]
    await wait_until(lambda: {len(first_tasks._tasks), len(second_tasks._tasks)} == {2})
    sent = await harness.publish("a", "b")
    harness.stop.set()
    await running[0]
    sent += await other_harness.publish("c")
    await wait_until(
        lambda: all(sorted(set(receiver.webhook_ids)) == sorted(sent) for receiver in receivers)
    )
    other_harness.stop.set()
    await running[1]

    await other_harness.close()

    for receiver in receivers:
        await receiver.stop()
