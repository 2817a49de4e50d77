"""Kafka or PostgreSQL away, a service killed between any two steps: nothing accepted is lost, nothing is done twice.

These tests kill servers, so they run embedded ones of their own whatever the others use. The long form
(`make test-faults`) kills at each point more often.
"""

import asyncio
import contextlib
import os
import signal
import time

import httpx2
import pytest

from cli.servers.managed_process import ManagedProcess
from cli.servers.service import ServiceProcess
from libs.common.db.outbox import message_from_row
from libs.common.failpoints import POINTS
from libs.common.kafka.publisher import Publisher
from libs.common.kafka.topic_reader import read_all as messages
from libs.common.messages import Message
from tests.support.full_instance import FullInstance
from tests.support.progress import LONG
from tests.support.webhook_receiver import WebhookReceiver

pytestmark = pytest.mark.timeout(560)
TIMES = (1, 2, 5, 9) if LONG else (2,)
SCORING = (
    "before_fence",
    "after_fence",
    "before_commit",
    "after_commit",
    "before_publish",
    "after_publish",
)
ORCHESTRATOR = ("after_reserve", "after_send")
WEBHOOKS = "after_webhooks"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    found = FullInstance(tmp_path_factory.mktemp("whole"))
    yield found
    found.down()


@pytest.fixture
def key(whole):
    return whole.environment["WRITE_KEY"]


async def up(whole):
    await asyncio.to_thread(whole.up)


async def answer_of(whole, key, call):
    """Return (status, seconds) of one call."""
    begun = time.monotonic()
    async with httpx2.AsyncClient(auth=(key, ""), timeout=20, trust_env=False) as client:
        answer = await client.post(f"{whole.ingest_url}/v1/track", json=call)
    return answer, time.monotonic() - begun


async def answers(address):
    """Wait until a service answers at all: three that start at once take their time on a busy machine."""
    end = time.monotonic() + 60
    async with httpx2.AsyncClient(trust_env=False) as client:
        while time.monotonic() < end:
            with contextlib.suppress(httpx2.TransportError):
                await client.get(address)
                return
            await asyncio.sleep(0.2)


def kill(whole, name):
    os.kill(ManagedProcess(whole.stack.home, name).pid, signal.SIGKILL)


async def test_kafka_away_is_503_within_five_seconds_and_loses_nothing(whole, key):
    await whole.send(key, whole.calls(200))
    kill(whole, "kafka")
    answer, seconds = await answer_of(
        whole, key, {"event": "x", "userId": "u", "messageId": "never-counted"}
    )
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert seconds < 5.5
    sending = asyncio.create_task(whole.send(key, whole.calls(200)))
    await up(whole)
    await sending
    await whole.wait_until_idle()
    stored = await whole.fetch(
        "SELECT count(*) FROM scoring.touchpoints WHERE message_id = 'never-counted'"
    )
    assert stored[0][0] <= 1, "a 503 may have been stored, but only once"
    whole.sent += stored[0][0]
    await whole.check()


async def test_postgres_away_leaves_the_door_open(whole, key):
    kill(whole, "postgres")
    assert await whole.send(key, whole.calls(300)) == 300
    await up(whole)
    await whole.check()


async def test_both_away_at_once(whole, key):
    kill(whole, "postgres")
    kill(whole, "kafka")
    sending = asyncio.create_task(whole.send(key, whole.calls(100)))
    await up(whole)
    await sending
    await whole.check()


async def test_services_started_while_both_are_away_wait_for_them(whole, key):
    names = ("ingest", "scoring", "orchestrator")
    for name in names:
        ManagedProcess(whole.stack.home, name).stop()
    kill(whole, "postgres")
    kill(whole, "kafka")
    for name in names:
        ServiceProcess(whole.stack.home, name, whole.environment).start()
    await answers(f"{whole.ingest_url}/livez")
    await asyncio.sleep(2)
    assert all(ManagedProcess(whole.stack.home, name).pid for name in names), "a service gave up"
    answer, seconds = await answer_of(whole, key, {"event": "x", "userId": "u"})
    assert (answer.status_code, seconds < 5.5) == (503, True)
    assert "PostgreSQL" in answer.json()["message"]
    async with httpx2.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"{whole.ingest_url}/livez")).status_code == 200
        ready = await client.get(f"{whole.ingest_url}/readyz")
    assert ready.status_code == 503
    assert all(ready.json()["checks"].values())
    sending = asyncio.create_task(whole.send(key, whole.calls(50)))
    await up(whole)
    await sending
    await whole.check()


@pytest.mark.capability(29)
async def test_no_touchpoint_is_lost_when_a_consumer_restarts(whole, key):
    """Row 29: every accepted touchpoint appears in the timeline."""
    sending = asyncio.create_task(whole.send(key, whole.calls(600), size=20))
    for _ in range(3):
        await asyncio.sleep(0.4)
        await asyncio.to_thread(restart, whole, "scoring")
    await sending
    rows = []
    await whole.wait_until_idle()
    for message_id in (f"m{n}" for n in range(whole.sent - 599, whole.sent + 1)):
        rows += await whole.fetch(
            "SELECT 1 FROM scoring.touchpoints WHERE message_id = $1", message_id
        )
    assert len(rows) == 600


async def dies(whole, name, seconds=40):
    end = time.monotonic() + seconds
    while ManagedProcess(whole.stack.home, name).pid is not None:
        assert time.monotonic() < end, f"{name} never reached the point"
        await asyncio.sleep(0.05)


async def send_until_it_dies(whole, key, name):
    """Send small batches with pauses, so that the point is reached as often as it has to be."""
    end = time.monotonic() + 60
    while ManagedProcess(whole.stack.home, name).pid is not None:
        assert time.monotonic() < end, f"{name} never reached the point"
        await whole.send(key, whole.calls(20), size=20)
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("point", SCORING)
async def test_scoring_killed_at_a_point(whole, key, point):
    for count in TIMES:
        whole.options(PERIGEE_FAILPOINT=f"{point}:{count}")
        await asyncio.to_thread(restart, whole, "scoring")
        await send_until_it_dies(whole, key, "scoring")
        whole.options()
        await up(whole)
    await whole.check()


@pytest.mark.parametrize("point", ORCHESTRATOR)
async def test_orchestrator_killed_around_a_send(whole, key, point):
    before = len(list(whole.stack.mail.folder.glob("*.eml")))
    whole.options(PERIGEE_FAILPOINT=f"{point}:1")
    await asyncio.to_thread(restart, whole, "orchestrator")
    await whole.send(key, whole.calls(5, subscribe=True))
    await dies(whole, "orchestrator")
    whole.options()
    await up(whole)
    await whole.fetch(
        "UPDATE orchestrator.actions SET due_at = 0 WHERE status = 'sending' RETURNING action_id"
    )  # the reservation runs out
    await whole.check()
    rows = await whole.fetch("SELECT status, count(*) FROM orchestrator.actions GROUP BY 1")
    counts = {r[0]: r[1] for r in rows}
    assert counts.keys() <= {"sent", "in_doubt"}
    assert counts["in_doubt"] >= 1
    mails = len(list(whole.stack.mail.folder.glob("*.eml"))) - before
    assert mails <= 5, "no mail goes out twice"


async def test_orchestrator_killed_between_a_webhook_and_its_record(whole, key):
    """The subscriber gets every change of each contact in order, and repeats by id alone."""
    receiver = WebhookReceiver()
    url = await receiver.start()
    headers = {"Authorization": f"Bearer {whole.environment['PERIGEE_ADMIN_KEY']}"}
    door = f"{whole.environment['ORCHESTRATOR_URL']}/admin/v1/subscriptions"
    async with httpx2.AsyncClient(headers=headers, trust_env=False) as client:
        made = await client.post(door, json={"name": "crm", "url": url})
    assert made.status_code == 201, made.text
    begun = {
        r[0]
        for r in await whole.fetch("SELECT position FROM scoring.log WHERE topic = 'stage-changes'")
    }
    for count in TIMES:
        whole.options(PERIGEE_FAILPOINT=f"{WEBHOOKS}:{count}")
        await asyncio.to_thread(restart, whole, "orchestrator")
        await send_until_it_dies(whole, key, "orchestrator")
        whole.options()
        await up(whole)
    await whole.wait_until_idle()
    rows = await whole.fetch(
        "SELECT position, key, headers FROM scoring.log WHERE topic = 'stage-changes' ORDER BY position"
    )
    told = [
        dict(message_from_row("", b"", None, r[2]).headers)["ce_id"].decode()
        for r in rows
        if r[0] not in begun
    ]
    end = time.monotonic() + 60
    while set(receiver.webhook_ids) != set(told):
        assert time.monotonic() < end, (len(set(receiver.webhook_ids)), len(told))
        await asyncio.sleep(0.2)
    assert len(receiver.webhook_ids) > len(told), "nothing was under way when it was killed"
    seen = {}
    for data in receiver.payloads:
        known = seen.setdefault((data["contact_id"], data["cycle"]), [])
        if data["sequence"] not in known:
            known.append(data["sequence"])
    assert all(numbers == sorted(numbers) for numbers in seen.values())
    async with httpx2.AsyncClient(headers=headers, trust_env=False) as client:
        await client.delete(f"{door}/crm")
    await receiver.stop()


def restart(whole, name):
    """Start a service again with the options of now."""
    ManagedProcess(whole.stack.home, name).stop()
    ServiceProcess(whole.stack.home, name, whole.environment).start()


def test_every_failpoint_is_tried():
    assert {*SCORING, *ORCHESTRATOR, WEBHOOKS, "in_fold"} == set(
        POINTS
    )  # the storms raise in folds


# Last, since what lies on the topics stays there.
RUBBISH = [b"", b"not json", b"{}", b"\xff\xfe", b"[" * 5_000, b'{"workspace":1}', None]


async def test_rubbish_straight_on_the_topics_is_kept_and_costs_nobody(whole, key):
    publisher = Publisher(whole.servers.kafka)
    for topic in ("touchpoints", "signals", "stage-changes"):
        rubbish = [Message(topic, b"k%d" % n, value, []) for n, value in enumerate(RUBBISH)]
        sending = asyncio.create_task(whole.send(key, whole.calls(40), size=10))
        assert not any(await publisher.publish(rubbish, 10))
        await sending
    await publisher.close()
    await whole.wait_until_idle()
    kept = {
        topic: await messages(whole.servers.kafka, topic)
        for topic in ("scoring-dlq", "orchestrator-dlq")
    }
    assert sorted(r.value or b"" for r in kept["scoring-dlq"]) == sorted(v or b"" for v in RUBBISH)
    assert len(kept["orchestrator-dlq"]) == 2 * len(RUBBISH)
    for record in kept["scoring-dlq"]:
        assert {"x-dlq-reason", "x-dlq-topic", "x-dlq-offset"} <= dict(record.headers).keys()
    assert (await whole.replay_check())["equal"]
