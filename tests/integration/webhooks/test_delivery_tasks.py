"""Processes that carry webhooks: side by side, stopped, taken over."""

import asyncio

from tests.integration.webhooks.harness import Bench
from tests.support.waiting import wait_until
from tests.support.webhook_receiver import WebhookReceiver


async def test_a_slow_receiver_slows_no_other(bench, receiver):
    slow = WebhookReceiver(lambda _: 0.2)
    await bench.create(await slow.start(), "slow")
    await bench.create(await receiver.start(), "quick")
    for _ in range(20):
        await bench.publish(*"abcdefghij")
    running = asyncio.create_task(bench.webhooks().run(bench.stop))
    await wait_until(lambda: len(set(receiver.webhook_ids)) == 200)
    assert len(slow.seen) < 100  # 200 would take it 5 s, 8 at once
    assert slow.most_at_once <= 8
    bench.stop.set()
    await running
    await slow.stop()


async def test_what_nobody_foresaw_stops_one_subscription_and_no_other(bench, receiver):
    url = await receiver.start()
    await bench.create(url, "broken")
    await bench.create(url, "well")
    plain = bench.delivering.deliver_round

    async def turn(number, leaving=None):
        if number == 1:
            raise RuntimeError("a bug")
        return await plain(number, leaving)

    bench.delivering.deliver_round = turn
    running = asyncio.create_task(bench.webhooks().run(bench.stop))
    sent = await bench.publish("a")
    await wait_until(lambda: receiver.webhook_ids == sent)
    bench.stop.set()
    await asyncio.wait_for(running, 20)


async def test_what_was_delivered_before_a_stop_is_not_sent_again(bench, receiver):
    receiver.answering = lambda _: 0.1
    await bench.create(await receiver.start())
    await bench.publish(*(f"c{number}" for number in range(150)))
    running = asyncio.create_task(bench.webhooks().run(bench.stop))
    await wait_until(lambda: len(receiver.seen) >= 20)
    bench.stop.set()
    await asyncio.wait_for(running, 20)
    assert 20 <= len(receiver.seen) < 100
    receiver.answering = lambda _: (200, {})
    await bench.turns()
    assert len(receiver.webhook_ids) == len(set(receiver.webhook_ids)) == 150


async def test_two_processes_share_the_subscriptions_and_one_takes_over(bench, database):
    others = Bench(database)
    receivers = [WebhookReceiver() for _ in range(4)]
    for number, one in enumerate(receivers):
        await bench.create(await one.start(), f"s{number}")
    bench.clock = others.clock
    first, second = bench.webhooks(), others.webhooks()
    running = [
        asyncio.create_task(first.run(bench.stop)),
        asyncio.create_task(second.run(others.stop)),
    ]
    await wait_until(lambda: {len(first._tasks), len(second._tasks)} == {2})
    sent = await bench.publish("a", "b")
    bench.stop.set()
    await running[0]
    sent += await others.publish("c")
    await wait_until(lambda: all(sorted(set(one.webhook_ids)) == sorted(sent) for one in receivers))
    others.stop.set()
    await running[1]
    await others.close()
    for one in receivers:
        await one.stop()
