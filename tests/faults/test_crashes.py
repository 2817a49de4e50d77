"""A service killed between any two steps: nothing accepted is lost, nothing is done twice.

The long form (`make test-faults`) kills at each point more often.
"""

import asyncio

import httpx2
import pytest

from cli.servers.managed_process import ManagedProcess
from cli.servers.service import ServiceProcess
from libs.common.db.outbox import message_from_row
from libs.common.failpoints import POINTS
from libs.common.kafka.publisher import Publisher
from libs.common.kafka.topic_reader import read_all as messages
from libs.common.messages import Message
from tests.support.instance import Instance
from tests.support.progress import LONG
from tests.support.waiting import last, wait_until
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


@pytest.fixture
def whole(tmp_path, perigee_topics, database, request):
    """A running instance; its services start with the failpoint that the test's parameter names."""
    point = getattr(request, "param", "")
    instance = Instance(tmp_path, perigee_topics, database, PERIGEE_FAILPOINT=point)
    instance.up()
    yield instance
    instance.down()


@pytest.fixture
def key(whole):
    return whole.environment["WRITE_KEY"]


def starts_armed(point):
    """Let the first start be the armed one: only the service in question has the point."""
    return pytest.mark.parametrize("whole", [point], indirect=True)


def restart(whole, name):
    ManagedProcess(whole.stack.home, name).stop()
    ServiceProcess(whole.stack.home, name, whole.environment).start()


async def start(whole, name, point=""):
    """Start a dead service, so that it dies at the point if there is one."""
    whole.options(PERIGEE_FAILPOINT=point)
    await asyncio.to_thread(ServiceProcess(whole.stack.home, name, whole.environment).start)


async def wait_for_death(whole, name):
    process = ManagedProcess(whole.stack.home, name)
    await wait_until(lambda: process.pid is None, what=f"the failpoint of {name}")


async def send_until_it_dies(whole, key, name):
    """Send small batches with pauses, so that the point is reached as often as it has to be."""
    process = ManagedProcess(whole.stack.home, name)

    async def dead_or_fed():
        if process.pid is not None:
            await whole.send(key, whole.calls(10), size=10)
        return process.pid is None

    await wait_until(dead_or_fed, what=f"the failpoint of {name}", every=0.2)


@pytest.mark.capability(29)
async def test_no_touchpoint_is_lost_when_a_consumer_restarts(whole, key):
    """Every accepted touchpoint appears in the timeline."""
    sending = asyncio.create_task(whole.send(key, whole.calls(600), size=20))
    for _ in range(3):
        await last(0.4)
        await asyncio.to_thread(restart, whole, "scoring")
    await sending
    await whole.wait_until_idle()
    rows = await whole.fetch(
        "SELECT message_id FROM scoring.touchpoints WHERE message_id = ANY($1::text[])",
        [f"m{n}" for n in range(1, 601)],
    )
    assert len(rows) == 600


POINTS_OF_SCORING = [f"{point}:{count}" for point in SCORING for count in TIMES]


@starts_armed(POINTS_OF_SCORING[0])
async def test_scoring_killed_at_each_point(whole, key):
    """Each start recovers from the kill before it, until the next point kills it."""
    await send_until_it_dies(whole, key, "scoring")
    for point in POINTS_OF_SCORING[1:]:
        await start(whole, "scoring", point)
        await send_until_it_dies(whole, key, "scoring")
    await start(whole, "scoring")
    await whole.check()


@starts_armed(f"{ORCHESTRATOR[0]}:1")
async def test_orchestrator_killed_around_a_send(whole, key):
    for point in ORCHESTRATOR:
        if point != ORCHESTRATOR[0]:
            await start(whole, "orchestrator", f"{point}:1")
        await whole.send(key, whole.calls(5, subscribe=True))
        await wait_for_death(whole, "orchestrator")
        # The dead process's reservation runs out at once; what else was pending is not touched.
        await whole.fetch(
            "UPDATE orchestrator.actions SET due_at = 0 WHERE status = 'sending' RETURNING 1"
        )
    await start(whole, "orchestrator")
    await whole.check()
    rows = await whole.fetch("SELECT status, count(*) FROM orchestrator.actions GROUP BY 1")
    counts = {r[0]: r[1] for r in rows}
    assert counts.keys() <= {"sent", "in_doubt"}
    assert counts["in_doubt"] >= len(ORCHESTRATOR)
    assert sum(counts.values()) == 5 * len(ORCHESTRATOR)
    mails = len(list(whole.stack.mail.folder.glob("*.eml")))
    assert mails <= 5 * len(ORCHESTRATOR), "no mail goes out twice"


@starts_armed(f"{WEBHOOKS}:{TIMES[0]}")
async def test_orchestrator_killed_between_a_webhook_and_its_record(whole, key):
    """The subscriber gets every change of each contact in order, and repeats by id alone."""
    receiver = WebhookReceiver()
    url = await receiver.start()
    headers = {"Authorization": f"Bearer {whole.environment['PERIGEE_ADMIN_KEY']}"}
    subscriptions = f"{whole.environment['ORCHESTRATOR_URL']}/admin/v1/subscriptions"
    async with httpx2.AsyncClient(headers=headers, trust_env=False) as client:
        made = await client.post(subscriptions, json={"name": "crm", "url": url})
    assert made.status_code == 201, made.text
    for count in TIMES:
        if count != TIMES[0]:
            await start(whole, "orchestrator", f"{WEBHOOKS}:{count}")
        await send_until_it_dies(whole, key, "orchestrator")
    await start(whole, "orchestrator")
    await whole.wait_until_idle()
    rows = await whole.fetch(
        "SELECT position, key, headers FROM scoring.log WHERE topic = 'stage-changes' ORDER BY position"
    )
    told = [dict(message_from_row("", b"", None, r[2]).headers)["ce_id"].decode() for r in rows]
    await wait_until(
        lambda: set(receiver.webhook_ids) == set(told), what="a webhook for each change"
    )
    assert len(receiver.webhook_ids) > len(told), "nothing was under way when it was killed"
    seen = {}
    for data in receiver.payloads:
        known = seen.setdefault((data["contact_id"], data["cycle"]), [])
        if data["sequence"] not in known:
            known.append(data["sequence"])
    assert all(numbers == sorted(numbers) for numbers in seen.values())
    async with httpx2.AsyncClient(headers=headers, trust_env=False) as client:
        await client.delete(f"{subscriptions}/crm")
    await receiver.stop()


def test_every_failpoint_is_tried():
    assert {*SCORING, *ORCHESTRATOR, WEBHOOKS, "in_fold"} == set(
        POINTS
    )  # test_scoring_crashes.py raises in folds


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
