"""A service killed between any two steps loses nothing accepted and repeats no effect.

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
HIT_COUNTS = (1, 2, 5, 9) if LONG else (2,)
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
def instance(tmp_path, perigee_topics, database, request):
    """Running instance; its services start with the failpoint that the test's parameter names."""
    point = getattr(request, "param", "")
    instance = Instance(tmp_path, perigee_topics, database, PERIGEE_FAILPOINT=point)
    instance.up()
    yield instance
    instance.down()


@pytest.fixture
def key(instance):
    return instance.environment["WRITE_KEY"]


def start_with_failpoint(point):
    """Start the services with a failpoint, which only the service in question reaches."""
    return pytest.mark.parametrize("instance", [point], indirect=True)


def restart(instance, name):
    ManagedProcess(instance.stack.home, name).stop()
    ServiceProcess(instance.stack.home, name, instance.environment).start()


async def start(instance, name, point=""):
    """Start a dead service, with a failpoint if one is given."""
    instance.options(PERIGEE_FAILPOINT=point)
    await asyncio.to_thread(ServiceProcess(instance.stack.home, name, instance.environment).start)


async def wait_for_death(instance, name):
    process = ManagedProcess(instance.stack.home, name)
    await wait_until(lambda: process.pid is None, what=f"the failpoint of {name}")


async def send_until_death(instance, key, name):
    """Send small batches with pauses until the failpoint has killed the service."""
    process = ManagedProcess(instance.stack.home, name)

    async def is_dead_or_send():
        if process.pid is not None:
            await instance.send(key, instance.calls(10), size=10)
        return process.pid is None

    await wait_until(is_dead_or_send, what=f"the failpoint of {name}", every=0.2)


@pytest.mark.capability(29)
async def test_consumer_restart_loses_no_touchpoint(instance, key):
    """Every accepted touchpoint appears in the timeline."""
    sending = asyncio.create_task(instance.send(key, instance.calls(600), size=20))
    for _ in range(3):
        await last(0.4)
        await asyncio.to_thread(restart, instance, "scoring")
    await sending
    await instance.wait_until_idle()

    rows = await instance.fetch(
        "SELECT message_id FROM scoring.touchpoints WHERE message_id = ANY($1::text[])",
        [f"m{n}" for n in range(1, 601)],
    )

    assert len(rows) == 600


POINTS_OF_SCORING = [f"{point}:{count}" for point in SCORING for count in HIT_COUNTS]


@start_with_failpoint(POINTS_OF_SCORING[0])
async def test_scoring_recovers_from_kill_at_each_failpoint(instance, key):
    """Each start recovers from the kill before it, until the next point kills it."""
    await send_until_death(instance, key, "scoring")
    for point in POINTS_OF_SCORING[1:]:
        await start(instance, "scoring", point)
        await send_until_death(instance, key, "scoring")
    await start(instance, "scoring")
    await instance.check()


@start_with_failpoint(f"{ORCHESTRATOR[0]}:1")
async def test_orchestrator_killed_around_send_repeats_no_mail(instance, key):
    for point in ORCHESTRATOR:
        if point != ORCHESTRATOR[0]:
            await start(instance, "orchestrator", f"{point}:1")
        await instance.send(key, instance.calls(5, subscribe=True))
        await wait_for_death(instance, "orchestrator")
        # Only the dead process's reservation expires at once; other pending rows keep their time.
        await instance.fetch(
            "UPDATE orchestrator.actions SET due_at = 0 WHERE status = 'sending' RETURNING 1"
        )
    await start(instance, "orchestrator")
    await instance.check()
    rows = await instance.fetch("SELECT status, count(*) FROM orchestrator.actions GROUP BY 1")

    counts = {r[0]: r[1] for r in rows}

    assert counts.keys() <= {"sent", "in_doubt"}
    assert counts["in_doubt"] >= len(ORCHESTRATOR)
    assert sum(counts.values()) == 5 * len(ORCHESTRATOR)

    mails = len(list(instance.stack.mail.folder.glob("*.eml")))

    assert mails <= 5 * len(ORCHESTRATOR), "no mail goes out twice"


@start_with_failpoint(f"{WEBHOOKS}:{HIT_COUNTS[0]}")
async def test_kill_after_webhook_repeats_it_by_id(instance, key):
    """The subscriber gets every change of each contact in order; repeats have the same id."""
    receiver = WebhookReceiver()
    url = await receiver.start()
    headers = {"Authorization": f"Bearer {instance.environment['PERIGEE_ADMIN_KEY']}"}
    subscriptions = f"{instance.environment['ORCHESTRATOR_URL']}/admin/v1/subscriptions"

    async with httpx2.AsyncClient(headers=headers, trust_env=False) as client:
        created = await client.post(subscriptions, json={"name": "crm", "url": url})

    assert created.status_code == 201, created.text

    for count in HIT_COUNTS:
        if count != HIT_COUNTS[0]:
            await start(instance, "orchestrator", f"{WEBHOOKS}:{count}")
        await send_until_death(instance, key, "orchestrator")
    await start(instance, "orchestrator")
    await instance.wait_until_idle()
    rows = await instance.fetch(
        "SELECT position, key, headers FROM scoring.log "
        "WHERE topic = 'stage-changes' ORDER BY position"
    )
    change_ids = [
        dict(message_from_row("", b"", None, r[2]).headers)["ce_id"].decode() for r in rows
    ]
    await wait_until(
        lambda: set(receiver.webhook_ids) == set(change_ids), what="a webhook for each change"
    )
    assert len(receiver.webhook_ids) > len(change_ids), "no webhook was in flight at the kill"

    sequences_of_contact = {}
    for data in receiver.payloads:
        sequences = sequences_of_contact.setdefault((data["contact_id"], data["cycle"]), [])
        if data["sequence"] not in sequences:
            sequences.append(data["sequence"])

    assert all(numbers == sorted(numbers) for numbers in sequences_of_contact.values())

    async with httpx2.AsyncClient(headers=headers, trust_env=False) as client:
        await client.delete(f"{subscriptions}/crm")
    await receiver.stop()


def test_every_failpoint_is_covered():
    # test_scoring_crashes.py raises in folds.
    assert {*SCORING, *ORCHESTRATOR, WEBHOOKS, "in_fold"} == set(POINTS)


MALFORMED_VALUES = [b"", b"not json", b"{}", b"\xff\xfe", b"[" * 5_000, b'{"workspace":1}', None]


async def test_malformed_records_become_dead_letters(instance, key):
    publisher = Publisher(instance.servers.kafka)
    for topic in ("touchpoints", "signals", "stage-changes"):
        malformed = [
            Message(topic, b"k%d" % n, value, []) for n, value in enumerate(MALFORMED_VALUES)
        ]
        sending = asyncio.create_task(instance.send(key, instance.calls(40), size=10))
        assert not any(await publisher.publish(malformed, 10))
        await sending
    await publisher.close()
    await instance.wait_until_idle()

    kept = {
        topic: await messages(instance.servers.kafka, topic)
        for topic in ("scoring-dlq", "orchestrator-dlq")
    }

    assert sorted(r.value or b"" for r in kept["scoring-dlq"]) == sorted(
        v or b"" for v in MALFORMED_VALUES
    )
    assert len(kept["orchestrator-dlq"]) == 2 * len(MALFORMED_VALUES)
    for record in kept["scoring-dlq"]:
        assert {"x-dlq-reason", "x-dlq-topic", "x-dlq-offset"} <= dict(record.headers).keys()
    assert (await instance.replay_check())["equal"]
