"""What arrives: order, retries, slow, dead and strange receivers."""

import asyncio

import msgspec
from standardwebhooks.webhooks import Webhook

from libs.common.instants import DAY, SECOND
from tests.integration.webhooks.harness import PLAIN, in_order


async def test_what_is_published_arrives_signed_and_once(bench, receiver):
    made = await bench.create(await receiver.start())
    sent = await bench.publish("a", "b", "a", "c")
    await bench.turns()
    assert sorted(receiver.webhook_ids) == sorted(sent)
    assert in_order(receiver.payloads) == {"a": [1, 2], "b": [1], "c": [1]}
    for headers, body in receiver.seen:
        told = Webhook(made.secret).verify(body.decode(), headers)
        assert (told["type"], told["timestamp"][:4]) == ("perigee.stage_change.v1", "2026")
        assert told["data"]["crm"]["hubspot"] == "salesqualifiedlead"
    await bench.turns()
    assert len(receiver.seen) == 4
    shown = await bench.desk.get("default", "crm")
    assert [one.status for one in shown.attempts] == [200] * 4
    assert (shown.backlog.unread, shown.secret) == (0, None)


async def test_only_what_is_wanted_of_ones_own_workspace(bench, receiver):
    await bench.create(await receiver.start(), stages=("lead",))
    await bench.publish("a")
    await bench.publish("b", stage=msgspec.structs.replace(PLAIN.stage, to="lead"))
    await bench.publish(
        "c", stage=msgspec.structs.replace(PLAIN.stage, to="lead"), workspace="other"
    )
    await bench.turns()
    assert receiver.webhook_ids == ["b-1"]


async def test_a_message_that_is_not_taken_holds_its_contact_and_nobody_else(bench, receiver):
    receiver.answering = lambda told: (500 if told["data"]["contact_id"] == "a" else 200, {})
    await bench.create(await receiver.start())
    await bench.publish("a", "b", "a", "b")
    await bench.turns()
    assert in_order(receiver.payloads) == {"a": [1], "b": [1, 2]}
    await bench.publish("a", "b")
    await bench.turns()
    assert in_order(receiver.payloads) == {"a": [1], "b": [1, 2, 3]}
    assert (await bench.desk.get("default", "crm")).backlog.waiting == 3
    receiver.answering = lambda _: (200, {})
    bench.clock.instant += 6 * SECOND
    await bench.turns()
    assert in_order(receiver.payloads) == {"a": [1, 2, 3], "b": [1, 2, 3]}
    assert (await bench.desk.get("default", "crm")).backlog.waiting == 0


async def test_a_receiver_that_is_away_for_six_days_gets_everything_in_order(bench, receiver):
    url = await receiver.start()
    await receiver.stop()
    await bench.create(url)
    sent = []
    for _ in range(6 * 24):
        sent += await bench.publish("a", "b", "c")
        await bench.turns()
        bench.clock.instant += 3_600 * SECOND
    shown = await bench.desk.get("default", "crm")
    assert shown.status == "active"
    assert len(shown.attempts) == 50
    await receiver.start(int(url.split(":")[2].split("/")[0]))
    for _ in range(10):
        await bench.turns()
        bench.clock.instant += 600 * SECOND
    assert sorted(set(receiver.webhook_ids)) == sorted(sent)
    assert all(numbers == sorted(numbers) for numbers in in_order(receiver.payloads).values())
    shown = await bench.desk.get("default", "crm")
    assert (shown.backlog.waiting, shown.backlog.unread, shown.failures) == (0, 0, 0)


async def test_seven_days_away_disable_and_nothing_is_lost_even_then(bench, receiver):
    url = await receiver.start()
    await receiver.stop()
    await bench.create(url)
    sent = await bench.publish("a", "b", "c", "d", "e", "f")
    for _ in range(9):
        await bench.turns()
        bench.clock.instant += DAY
    shown = await bench.desk.get("default", "crm")
    assert (shown.status, shown.reason) == ("disabled", "the receiver has taken nothing for 7 days")
    sent += await bench.publish("a")
    await receiver.start(int(url.split(":")[2].split("/")[0]))
    await bench.turns()
    assert receiver.seen == []
    await bench.desk.resume("default", "crm")
    await bench.turns()
    assert sorted(set(receiver.webhook_ids)) == sorted(sent)


async def test_410_disables_at_once_and_retry_after_is_obeyed(bench, receiver):
    receiver.answering = lambda _: (429, {"Retry-After": "120"})
    await bench.create(await receiver.start())
    await bench.publish("a")
    await bench.turns()
    receiver.answering = lambda _: (410, {})
    bench.clock.instant += 119 * SECOND
    await bench.turns()
    assert len(receiver.seen) == 1
    bench.clock.instant += 2 * SECOND
    await bench.turns()
    shown = await bench.desk.get("default", "crm")
    assert (len(receiver.seen), shown.status, "410" in shown.reason) == (2, "disabled", True)
    assert shown.backlog.waiting == 1


async def test_a_receiver_that_hangs_is_asked_a_few_times_and_not_for_everything(
    bench, receiver, monkeypatch
):
    monkeypatch.setattr("services.orchestrator.webhooks.http_client.REQUEST_TIMEOUT_SECONDS", 0.2)
    receiver.answering = lambda _: 30.0
    await bench.create(await receiver.start())
    sent = await bench.publish(*(f"c{number}" for number in range(100)))
    await asyncio.wait_for(bench.turns(), 5)
    shown = await bench.desk.get("default", "crm")
    assert (len(shown.attempts) < 20, shown.backlog.waiting, shown.failures) == (True, 100, 5)
    receiver.answering = lambda _: (200, {})
    bench.clock.instant += 6 * SECOND
    await bench.turns()
    await bench.turns()
    assert sorted(receiver.webhook_ids) == sorted(sent)


async def test_contacts_that_are_rejected_for_days_stop_nobody_else(bench, receiver):
    """Five that fail together look like a receiver that is down, until somebody else's message goes through."""
    bad = tuple(f"bad-{number}" for number in range(7))
    receiver.answering = lambda told: (422 if told["data"]["contact_id"] in bad else 200, {})
    await bench.create(await receiver.start())
    await bench.publish(*bad)
    good = []
    for number in range(9 * 24):
        good += await bench.publish(f"good-{number}")
        for _ in range(3):
            await bench.turns()
            bench.clock.instant += 1_200 * SECOND
    shown = await bench.desk.get("default", "crm")
    assert (shown.status, shown.backlog.given_up, shown.backlog.waiting) == ("active", 7, 0)
    assert set(receiver.webhook_ids) >= set(good)


async def test_a_receiver_cannot_end_the_process_by_what_it_says(bench, receiver):
    answers = [
        (500, {"Retry-After": "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"}),
        (500, {"X": "\0"}),
        (503, {"Retry-After": "Mon, 01 Jan 1601 00:00:00 GMT"}),
    ]
    receiver.answering = lambda _: answers[len(receiver.seen) % 3]
    receiver.text = b"a\0b\xff"
    await bench.create(await receiver.start())
    sent = await bench.publish("a", "b", "c")
    await bench.turns()
    assert (await bench.desk.get("default", "crm")).backlog.waiting == 3
    receiver.answering = lambda _: (200, {})
    bench.clock.instant += 60 * SECOND
    await bench.turns()
    assert set(receiver.webhook_ids) == set(sent)
