"""Webhook subscriptions on a real database: order, retries, slow and dead receivers, restarts, resends."""

import asyncio
import contextlib
import json
import os
import random
import socket
import sys
import time

import msgspec
import pytest
from standardwebhooks.webhooks import Webhook

from cli.home import PROJECT
from libs.common.clock import DAY, SECOND, FixedClock, SystemClock
from libs.common.db import log
from libs.common.db.connection import Pool, Session
from libs.common.db.outbox import Outbox
from libs.common.errors import ConfigurationError, Conflict, NotFound
from libs.common.messages import StageChange, compose
from libs.common.messages.selection import Selection
from services.orchestrator.channels.webhook import Post
from services.orchestrator.handlers.delivering import Delivering
from services.orchestrator.handlers.subscriptions import SubscriptionsDesk
from services.orchestrator.handlers.webhooks import Webhooks
from services.scoring.handlers.published import Changes
from tests.contract.golden import EXAMPLES
from tests.support.receiver import Receiver

SHARDS = 3
LONG = os.environ.get("PERIGEE_FAULTS") == "long"
KILLS = 20 if LONG else 2
PLAIN = EXAMPLES[1]
assert isinstance(PLAIN, StageChange)


class FastClock:
    """A clock that runs faster than time."""

    def __init__(self, speed):
        self.begun, self.real, self.speed = SystemClock().now(), time.monotonic(), speed

    def now(self):
        return self.begun + int((time.monotonic() - self.real) * SECOND * self.speed)


class Bench:
    """What carries webhooks, on a database of its own; what a relay would have moved to the log is put there."""

    def __init__(self, database, clock=None):
        self.database, self.clock = database, clock or SystemClock()
        self.sessions = [Session(database, f"test-{n}") for n in range(4)]
        self.post = Post(self.clock, private=True)
        self.desk = SubscriptionsDesk(self.sessions[0], self.post.fault, self.clock, SHARDS)
        self.pool = Pool(self.sessions[1:])
        self.delivering = Delivering(self.pool, self.post, self.clock, SHARDS, random.Random(7).random)
        self.outbox = Outbox("scoring", SHARDS)
        self.sequences: dict[str, int] = {}
        self.stop = asyncio.Event()

    async def publish(self, *contacts, **changes):
        """Publish the next stage change of each contact; return their ids."""
        messages = []
        for contact in contacts:
            self.sequences[contact] = number = self.sequences.get(contact, 0) + 1
            change = msgspec.structs.replace(
                PLAIN, id=f"{contact}-{number}", contact_id=contact, sequence=number, **changes
            )
            messages.append(
                compose(change, key=contact, message_id=change.id, source="/scoring", time=PLAIN.occurred_at)
            )
        async with self.sessions[0].use() as connection, connection.transaction():
            await self.outbox.write(connection, messages)
            rows = await connection.fetch("SELECT id FROM scoring.outbox")
            await log.move(connection, "scoring", [r[0] for r in rows], ["stage-changes", "signals"])
            await connection.execute("NOTIFY scoring_log")
        return [dict(m.headers)["ce_id"].decode() for m in messages]

    async def create(self, url, name="crm", **wanted):
        return await self.desk.create("default", name, url, Selection(**wanted))

    async def turns(self, number=1, most=50):
        """Take turns until nothing is left to do now."""
        for _ in range(most):
            if not await self.delivering.turn(number):
                return

    def webhooks(self):
        return Webhooks(self.database, self.pool, self.delivering, self.clock)

    async def close(self):
        await self.post.close()
        for session in self.sessions:
            await session.close()


@pytest.fixture
async def bench(database):
    found = Bench(database, FixedClock(SystemClock().now()))
    yield found
    await found.close()


@pytest.fixture
async def receiver():
    found = Receiver()
    yield found
    await found.stop()


def in_order(receiver):
    """What each contact's receiver took, without repeats."""
    seen: dict[str, list[int]] = {}
    for data in receiver:
        numbers = seen.setdefault(data["contact_id"], [])
        if data["sequence"] not in numbers:
            numbers.append(data["sequence"])
    return seen


async def test_what_is_published_arrives_signed_and_once(bench, receiver):
    made = await bench.create(await receiver.start())
    sent = await bench.publish("a", "b", "a", "c")
    await bench.turns()
    assert sorted(receiver.ids) == sorted(sent)
    assert in_order(receiver.data) == {"a": [1, 2], "b": [1], "c": [1]}
    for headers, body in receiver.seen:
        told = Webhook(made.secret).verify(body.decode(), headers)
        assert (told["type"], told["timestamp"][:4]) == ("perigee.stage_change.v1", "2026")
        assert told["data"]["crm"]["hubspot"] == "salesqualifiedlead"
    await bench.turns()
    assert len(receiver.seen) == 4
    shown = await bench.desk.one("default", "crm")
    assert [one.status for one in shown.attempts] == [200] * 4
    assert (shown.backlog.unread, shown.secret) == (0, None)


async def test_it_begins_now_or_with_the_beginning(bench, receiver):
    url = await receiver.start()
    await bench.publish("a")
    await bench.create(url)
    await bench.desk.create("default", "archive", url, Selection(), beginning=True)
    await bench.publish("b")
    await bench.turns(1)
    assert receiver.ids == ["b-1"]
    await bench.turns(2)
    assert receiver.ids == ["b-1", "a-1", "b-1"]


async def test_only_what_is_wanted_of_ones_own_workspace(bench, receiver):
    await bench.create(await receiver.start(), stages=("lead",))
    await bench.publish("a")
    await bench.publish("b", stage=msgspec.structs.replace(PLAIN.stage, to="lead"))
    await bench.publish("c", stage=msgspec.structs.replace(PLAIN.stage, to="lead"), workspace="other")
    await bench.turns()
    assert receiver.ids == ["b-1"]


async def test_a_message_that_is_not_taken_holds_its_contact_and_nobody_else(bench, receiver):
    receiver.answering = lambda told: (500 if told["data"]["contact_id"] == "a" else 200, {})
    await bench.create(await receiver.start())
    await bench.publish("a", "b", "a", "b")
    await bench.turns()
    assert in_order(receiver.data) == {"a": [1], "b": [1, 2]}
    await bench.publish("a", "b")
    await bench.turns()
    assert in_order(receiver.data) == {"a": [1], "b": [1, 2, 3]}
    assert (await bench.desk.one("default", "crm")).backlog.waiting == 3
    receiver.answering = lambda _: (200, {})
    bench.clock.instant += 6 * SECOND
    await bench.turns()
    assert in_order(receiver.data) == {"a": [1, 2, 3], "b": [1, 2, 3]}
    assert (await bench.desk.one("default", "crm")).backlog.waiting == 0


async def test_a_receiver_that_is_away_for_six_days_gets_everything_in_order(bench, receiver):
    url = await receiver.start()
    await receiver.stop()
    await bench.create(url)
    sent = []
    for _ in range(6 * 24):
        sent += await bench.publish("a", "b", "c")
        await bench.turns()
        bench.clock.instant += 3_600 * SECOND
    shown = await bench.desk.one("default", "crm")
    assert shown.status == "active"
    assert len(shown.attempts) == 50
    await receiver.start(int(url.split(":")[2].split("/")[0]))
    for _ in range(10):
        await bench.turns()
        bench.clock.instant += 600 * SECOND
    assert sorted(set(receiver.ids)) == sorted(sent)
    assert all(numbers == sorted(numbers) for numbers in in_order(receiver.data).values())
    shown = await bench.desk.one("default", "crm")
    assert (shown.backlog.waiting, shown.backlog.unread, shown.failures) == (0, 0, 0)


async def test_seven_days_away_disable_and_nothing_is_lost_even_then(bench, receiver):
    url = await receiver.start()
    await receiver.stop()
    await bench.create(url)
    sent = await bench.publish("a", "b", "c", "d", "e", "f")
    for _ in range(9):
        await bench.turns()
        bench.clock.instant += DAY
    shown = await bench.desk.one("default", "crm")
    assert (shown.status, shown.reason) == ("disabled", "the receiver has taken nothing for 7 days")
    sent += await bench.publish("a")
    await receiver.start(int(url.split(":")[2].split("/")[0]))
    await bench.turns()
    assert receiver.seen == []
    await bench.desk.resume("default", "crm")
    await bench.turns()
    assert sorted(set(receiver.ids)) == sorted(sent)


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
    shown = await bench.desk.one("default", "crm")
    assert (len(receiver.seen), shown.status, "410" in shown.reason) == (2, "disabled", True)
    assert shown.backlog.waiting == 1


async def test_what_is_given_up_can_be_sent_again_and_so_can_everything(bench, receiver):
    receiver.answering = lambda told: (400 if told["data"]["contact_id"] == "a" else 200, {})
    await bench.create(await receiver.start())
    await bench.publish("a")
    for _ in range(20):
        await bench.publish("b")  # others go through, so the receiver is not down
        await bench.turns()
        bench.clock.instant += DAY
    shown = await bench.desk.one("default", "crm")
    assert (shown.backlog.given_up, shown.backlog.waiting) == (1, 0)
    receiver.answering, receiver.seen = (lambda _: (200, {})), []
    await bench.publish("a")
    await bench.turns()
    assert receiver.ids == ["a-2"]  # what comes later goes on
    await bench.desk.resend("default", "crm", message=None, since=None)
    await bench.desk.resend("default", "crm", message="b-3", since=None)
    await bench.turns()
    assert sorted(receiver.ids) == ["a-1", "a-2", "b-3"]
    with pytest.raises(NotFound, match="delivery log"):
        await bench.desk.resend("default", "crm", message="z", since=None)
    receiver.seen = []
    await bench.desk.resend("default", "crm", message=None, since=0)
    await bench.turns()
    assert len(receiver.ids) == 22


async def test_a_slow_receiver_slows_no_other(bench, receiver):
    slow = Receiver(lambda _: 0.2)
    await bench.create(await slow.start(), "slow")
    await bench.create(await receiver.start(), "quick")
    for _ in range(20):
        await bench.publish(*"abcdefghij")
    running = asyncio.create_task(bench.webhooks().run(bench.stop))
    begun = time.monotonic()
    while len(set(receiver.ids)) < 200:
        await asyncio.sleep(0.02)
        assert time.monotonic() - begun < 60
    assert len(slow.seen) < 100  # 200 would take it 5 s, 8 at once
    assert slow.most_at_once <= 8
    bench.stop.set()
    await running
    await slow.stop()


async def test_a_receiver_that_hangs_is_asked_a_few_times_and_not_for_everything(bench, receiver, monkeypatch):
    monkeypatch.setattr("services.orchestrator.channels.webhook.SECONDS", 0.2)
    receiver.answering = lambda _: 30.0
    await bench.create(await receiver.start())
    sent = await bench.publish(*(f"c{number}" for number in range(100)))
    await asyncio.wait_for(bench.turns(), 5)
    shown = await bench.desk.one("default", "crm")
    assert (len(shown.attempts) < 20, shown.backlog.waiting, shown.failures) == (True, 100, 5)
    receiver.answering = lambda _: (200, {})
    bench.clock.instant += 6 * SECOND
    await bench.turns()
    await bench.turns()
    assert sorted(receiver.ids) == sorted(sent)


async def test_a_rotated_secret_signs_beside_the_old_one_for_a_while(bench, receiver):
    bench.clock = FixedClock(SystemClock().now())
    first = (await bench.create(await receiver.start())).secret
    second = (await bench.desk.rotate("default", "crm", 3_600 * SECOND)).secret
    await bench.publish("a")
    await bench.turns()
    headers, body = receiver.seen[0]
    assert Webhook(first).verify(body.decode(), headers) == Webhook(second).verify(body.decode(), headers)
    assert len(headers["webhook-signature"].split()) == 2


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
    shown = await bench.desk.one("default", "crm")
    assert (shown.status, shown.backlog.given_up, shown.backlog.waiting) == ("active", 7, 0)
    assert set(receiver.ids) >= set(good)


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
    assert (await bench.desk.one("default", "crm")).backlog.waiting == 3
    receiver.answering = lambda _: (200, {})
    bench.clock.instant += 60 * SECOND
    await bench.turns()
    assert set(receiver.ids) == set(sent)


async def test_what_nobody_foresaw_stops_one_subscription_and_no_other(bench, receiver):
    url = await receiver.start()
    await bench.create(url, "broken")
    await bench.create(url, "well")
    plain = bench.delivering.turn

    async def turn(number, leaving=None):
        if number == 1:
            raise RuntimeError("a bug")
        return await plain(number, leaving)

    bench.delivering.turn = turn
    running = asyncio.create_task(bench.webhooks().run(bench.stop))
    sent = await bench.publish("a")
    until = time.monotonic() + 20
    while receiver.ids != sent:
        await asyncio.sleep(0.05)
        assert time.monotonic() < until
    bench.stop.set()
    await asyncio.wait_for(running, 20)


async def test_what_was_delivered_before_a_stop_is_not_sent_again(bench, receiver):
    receiver.answering = lambda _: 0.1
    await bench.create(await receiver.start())
    await bench.publish(*(f"c{number}" for number in range(150)))
    running = asyncio.create_task(bench.webhooks().run(bench.stop))
    while len(receiver.seen) < 20:
        await asyncio.sleep(0.02)
    bench.stop.set()
    await asyncio.wait_for(running, 20)
    assert 20 <= len(receiver.seen) < 100
    receiver.answering = lambda _: (200, {})
    await bench.turns()
    assert len(receiver.ids) == len(set(receiver.ids)) == 150


async def test_resend_since_never_skips_what_was_not_read(bench, receiver):
    await bench.create(await receiver.start())
    await bench.desk.pause("default", "crm")
    sent = await bench.publish("a", "b")
    later = SystemClock().now()
    sent += await bench.publish("c")
    await bench.desk.resume("default", "crm")
    await bench.desk.resend("default", "crm", message=None, since=later)
    await bench.turns()
    assert sorted(receiver.ids) == sorted(sent)


async def test_a_paused_one_keeps_its_place(bench, receiver):
    await bench.create(await receiver.start())
    await bench.desk.pause("default", "crm")
    sent = await bench.publish("a", "b")
    await bench.turns()
    assert receiver.seen == []
    await bench.desk.resume("default", "crm")
    await bench.turns()
    assert sorted(receiver.ids) == sorted(sent)


async def test_what_an_operator_gets_wrong_is_said(bench, receiver):
    url = await receiver.start()
    await bench.create(url)
    with pytest.raises(Conflict, match="already"):
        await bench.create(url)
    with pytest.raises(ConfigurationError, match="user name"):
        await bench.create("https://me@crm.example/", "b")
    with pytest.raises(ConfigurationError, match="no slash"):
        await bench.create(url, "a/b")
    for act in (bench.desk.one, bench.desk.pause, bench.desk.resume, bench.desk.delete):
        with pytest.raises(NotFound, match="there are crm"):
            await act("default", "nope")
        with pytest.raises(NotFound, match="there are none"):
            await act("other", "crm")
    await bench.desk.delete("default", "crm")
    assert await bench.desk.every("default") == []


async def test_the_same_is_there_to_be_pulled_by_cursor(bench, database):
    changes = Changes(bench.sessions[0], SHARDS)
    assert (await changes.after("default", "", 10, Selection())).items == []
    end = (await changes.after("default", "now", 10, Selection())).cursor
    sent = []
    for _ in range(5):
        sent += await bench.publish("a", "b", "c")
    await bench.publish("z", workspace="other")
    found, cursor, more = [], "", True
    while more:
        page = await changes.after("default", cursor, 4, Selection())
        found += [json.loads(bytes(item.data)) for item in page.items]
        cursor, more = page.cursor, page.more
    assert sorted(one["id"] for one in found) == sorted(sent)
    assert in_order(found) == {"a": [1, 2, 3, 4, 5], "b": [1, 2, 3, 4, 5], "c": [1, 2, 3, 4, 5]}
    assert (await changes.after("default", cursor, 10, Selection())).items == []
    later = await bench.publish("b")
    assert [item.id for item in (await changes.after("default", cursor, 10, Selection())).items] == later
    assert len((await changes.after("default", end, 100, Selection())).items) == 16
    assert (await changes.after("default", "", 10, Selection(stages=("nowhere",)))).items == []
    for wrong in ("x", "%%%", "gA==x", cursor[:-2] + "!!", "gf8F"):
        with pytest.raises(ConfigurationError, match="none of ours"):
            await changes.after("default", wrong, 10, Selection())


async def test_a_cursor_misses_nothing_while_relays_write(bench):
    """Positions of a shard become visible in their order, whoever commits last."""
    changes = Changes(bench.sessions[0], SHARDS)
    found, cursor, done = [], "", asyncio.Event()

    async def pull():
        nonlocal cursor
        last = False
        while not last:
            ending = done.is_set()
            page = await changes.after("default", cursor, 7, Selection())
            found.extend(item.id for item in page.items)
            cursor, last = page.cursor, ending and not page.items
            await asyncio.sleep(0)

    others = Bench(bench.database)
    pulling = asyncio.create_task(pull())
    sent = []
    for _ in range(40):
        sent += await others.publish(*"abcdef")
    done.set()
    await pulling
    assert sorted(found) == sorted(sent)
    await others.close()


async def test_two_processes_share_the_subscriptions_and_one_takes_over(bench, database):
    others = Bench(database)
    receivers = [Receiver() for _ in range(4)]
    for number, one in enumerate(receivers):
        await bench.create(await one.start(), f"s{number}")
    bench.clock = others.clock
    first, second = bench.webhooks(), others.webhooks()
    running = [asyncio.create_task(first.run(bench.stop)), asyncio.create_task(second.run(others.stop))]
    until = time.monotonic() + 20
    while {len(first._lanes), len(second._lanes)} != {2}:
        await asyncio.sleep(0.05)
        assert time.monotonic() < until
    sent = await bench.publish("a", "b")
    bench.stop.set()
    await running[0]
    sent += await others.publish("c")
    while any(sorted(set(one.ids)) != sorted(sent) for one in receivers):
        await asyncio.sleep(0.05)
        assert time.monotonic() < until + 20
    others.stop.set()
    await running[1]
    await others.close()
    for one in receivers:
        await one.stop()


def fixed_port():
    """A port that no connection is given by chance while nobody listens there."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as tried, contextlib.suppress(OSError):
            tried.bind(("127.0.0.1", port))
            return port


async def started(port, file):
    """A receiver that listens."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.receiver", str(port), str(file), cwd=PROJECT
    )
    while True:
        assert process.returncode is None, "the receiver does not start"
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            return process


async def test_a_receiver_that_is_killed_gets_every_change_in_order(database, tmp_path):
    """The official libraries of Python and Node then verify every delivery, also those during a rotation."""
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    chance = random.Random(seed)
    # In the long form retries come five times as fast; more, and the libraries would take timestamps for ones of the future.
    bench = Bench(database, FastClock(5 if LONG else 1))
    port, file = fixed_port(), tmp_path / "deliveries.ndjson"
    first = (await bench.create(f"http://127.0.0.1:{port}/hook")).secret
    running = asyncio.create_task(bench.webhooks().run(bench.stop))
    sent, secrets = [], [first]
    for turn in range(KILLS):
        process = await started(port, file)
        for _ in range(4):
            sent += await bench.publish(*chance.choices("abcdefgh", k=6))
            await asyncio.sleep(chance.random() * 0.2)
        if turn == KILLS // 2:
            secrets.append((await bench.desk.rotate("default", "crm", DAY)).secret)
        sent += await bench.publish(*chance.choices("abcdefgh", k=20))
        await asyncio.sleep(chance.random() * 0.05)
        process.kill()
        await process.wait()
    process = await started(port, file)
    until = time.monotonic() + (60 if LONG else 180)
    seen = []
    while len({one["headers"]["webhook-id"] for one in seen}) < len(sent):
        await asyncio.sleep(0.3)
        seen = [json.loads(line) for line in file.read_text().splitlines()]
        assert time.monotonic() < until, (len(sent), len(seen))
    process.kill()
    await process.wait()
    bench.stop.set()
    await running
    await bench.close()
    found = in_order(json.loads(one["body"])["data"] for one in seen)
    assert found == {contact: list(range(1, count + 1)) for contact, count in bench.sequences.items()}
    bodies = {}
    for one in seen:
        assert bodies.setdefault(one["headers"]["webhook-id"], one["body"]) == one["body"]
        verified_by = [secret for secret in secrets if _verifies(secret, one)]
        assert verified_by
    (tmp_path / "secrets.json").write_text(json.dumps(secrets))
    node = await asyncio.create_subprocess_exec(
        "node", str(PROJECT / "tests" / "sdks" / "node" / "webhooks.mjs"), str(file), str(tmp_path / "secrets.json"),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await node.communicate()
    assert node.returncode == 0, said.decode()[-2_000:]
    assert json.loads(said)["verified"] == len(seen)
    print(f"{len(sent)} changes, {len(seen)} deliveries, {len(seen) - len(sent)} repeats")


def _verifies(secret, one):
    try:
        Webhook(secret).verify(one["body"], one["headers"])
    except Exception:
        return False
    return True
