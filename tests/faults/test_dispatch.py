"""The orchestrator killed at random and at failpoints, with contacts in plays and faulty receivers.

The short form kills a few times; the long one (`make test-faults`) kills 200 times with 20,000
contacts in two plays. Seeds are printed.
"""

import asyncio
import contextlib
import random
import signal
import time

import pytest
import yaml
from aiosmtpd.controller import Controller

from cli.servers.managed_process import ManagedProcess
from cli.servers.service import ServiceProcess
from libs.common.db.connection import connect
from libs.common.kafka.admin import apply_topics
from libs.common.kafka.publisher import Publisher
from libs.common.kafka.topic_reader import read_all as messages
from libs.common.messages import Signal, build_message, decode_value
from libs.common.messages.action import Action
from tests.support.faulty_receivers import FaultyMailServer, FaultyWebhookReceiver
from tests.support.instance import PARTITIONS, Instance
from tests.support.progress import LONG, choose_seed, report_progress
from tests.support.servers import _free_port
from tests.support.waiting import last, wait_until

CONTACTS, KILLS = (20_000, 200) if LONG else (400, 5)
MAILS_PER_DAY = 2
POINTS = ("after_reserve", "after_send", "before_publish", "after_publish")
pytestmark = pytest.mark.timeout(3_000 if LONG else 300)


def mail(name):
    return {
        "action": name,
        "channel": "email",
        "mail": {"subject": name, "text": "{{ unsubscribe_url }}"},
    }


HOOK = {"action": "hook", "channel": "webhook", "destination": "crm", "text": "{{ contact.email }}"}
PLAYS = {
    "one": [mail("first"), HOOK, {"wait": "3s"}, mail("second"), {"wait": "2s"}, mail("third")],
    "two": [{"wait": "1s"}, mail("other")],
}


async def insert_contacts_and_plays(database, hook):
    """Insert contacts (one in ten without consent), the webhook destination and the plays."""
    connection = await connect(database, application="test")
    await connection.execute(
        "INSERT INTO scoring.contacts (contact_id, workspace, profile) SELECT 'c' || n, 'default', "
        '\'{"email":["c\' || n || \'@x.test",0,"s","m"]}\' FROM generate_series(1, $1::int) n',
        CONTACTS,
    )
    await connection.execute(
        "INSERT INTO orchestrator.consents "
        "SELECT 'default', 'c' || n, 'marketing', n % 10 > 0, 0, 's' "
        "FROM generate_series(1, $1::int) n",
        CONTACTS,
    )
    destination = yaml.safe_dump({"destination": "crm", "channel": "webhook", "url": hook})
    await connection.execute(
        "INSERT INTO orchestrator.definitions VALUES ('default', 'destination', 'crm', $1, 'test')",
        destination,
    )
    for priority, (name, steps) in enumerate(PLAYS.items()):
        play = {
            "play": name,
            "trigger": {"signal": "quote_requested"},
            "priority": priority,
            "steps": steps,
        }
        await connection.execute(
            "INSERT INTO orchestrator.play_versions VALUES ('default', $1, 1, $2, 'test')",
            name,
            yaml.safe_dump(play),
        )
        await connection.execute(
            "INSERT INTO orchestrator.plays VALUES ('default', $1, 1, 'live')", name
        )
    await connection.close()


async def publish_quote_requests(kafka):
    """Publish a quote request of each contact, one in seven twice with the same id."""
    publisher = Publisher(kafka)
    now = int(time.time() * 1_000_000)
    batch_size = CONTACTS // (2 * KILLS)
    for first_number in range(1, CONTACTS + 1, batch_size):
        messages = []
        for number in range(first_number, min(first_number + batch_size, CONTACTS + 1)):
            contact = f"c{number}"
            quote_request = Signal(
                id=f"s{number}", workspace="default", contact_id=contact, cycle="engagement",
                signal="quote_requested", occurred_at=now, received_at=now, source="web",
                message_id=f"m{number}",
            )  # fmt: skip
            message = build_message(
                quote_request, key=contact, message_id=quote_request.id, source="/scoring", time=now
            )
            messages += [message] * (1 + (number % 7 == 0))
        assert not any(await publisher.publish(messages, 30))
        await last(1)
    await publisher.close()


class OrchestratorKiller:
    """Kills the orchestrator, at random or at a failpoint, and starts it again."""

    def __init__(self, instance, chance):
        self.instance, self.chance, self.kills = instance, chance, 0

    def start(self, **environment):
        self.process = ServiceProcess(
            self.instance.stack.home, "orchestrator", {**self.instance.environment, **environment}
        )
        self.process.start()

    async def run(self):
        while self.kills < KILLS:
            report_progress(f"sends: {self.kills} of {KILLS} kills")
            managed = ManagedProcess(self.instance.stack.home, "orchestrator")
            if self.kills % 2:
                await last(0.8 + self.chance.random() * 1.5)
            else:
                with contextlib.suppress(AssertionError):  # the point may not be reached
                    await wait_until(lambda managed=managed: managed.pid is None, 4)
            await asyncio.to_thread(managed.stop, signal.SIGKILL)
            self.kills += 1
            point = self.chance.choice(POINTS)
            armed = (
                f"{point}:{self.chance.randrange(1, 12)}"
                if self.kills % 2 == 0 and self.kills < KILLS
                else ""
            )
            await asyncio.to_thread(self.start, PERIGEE_FAILPOINT=armed)


async def wait_until_idle(instance):
    """Wait until no work is left; reservations of dead processes expire at once."""

    async def idle():
        rows = await instance.fetch(
            "SELECT (SELECT count(*) FROM orchestrator.actions "
            "WHERE status IN ('pending', 'sending')), "
            "(SELECT count(*) FROM orchestrator.enrollments), "
            "(SELECT count(*) FROM orchestrator.enrollments WHERE status = 'active'), "
            "(SELECT count(*) FROM orchestrator.outbox)"
        )
        if tuple(rows[0]) == (0, 2 * CONTACTS, 0, 0):
            return True
        pending, total, active, outbox = rows[0]
        report_progress(
            f"{pending} actions, {active} of {total} enrollments, {outbox} messages left"
        )
        await instance.fetch(
            "UPDATE orchestrator.actions SET due_at = 0 "
            "WHERE status = 'sending' AND due_at < $1::bigint + 275000000 RETURNING 1",
            int(time.time() * 1_000_000),
        )
        return False

    await wait_until(idle, 1_500 if LONG else 200, "an idle orchestrator", every=0.3)


async def test_action_is_sent_once_or_in_doubt(tmp_path, perigee_topics, database):
    seed = choose_seed()
    chance = random.Random(seed)
    smtp, hook = FaultyMailServer(chance), FaultyWebhookReceiver(random.Random(seed + 1))
    controller = Controller(smtp, hostname="127.0.0.1", port=_free_port())
    controller.start()
    url = await hook.start()
    instance = Instance(
        tmp_path, perigee_topics, database, SMTP_URL=f"smtp://127.0.0.1:{controller.port}",
        PERIGEE_CAP_PER_DAY=str(MAILS_PER_DAY), INGEST_URL="http://127.0.0.1:9",
        PERIGEE_PLAYS=str(tmp_path), PERIGEE_CONTENT=str(tmp_path), PERIGEE_SEGMENTS=str(tmp_path),
    )  # fmt: skip
    await apply_topics(perigee_topics.kafka, PARTITIONS)
    await insert_contacts_and_plays(database, url)
    killer = OrchestratorKiller(instance, chance)
    instance.stack.services()
    await asyncio.to_thread(killer.start)
    await asyncio.gather(publish_quote_requests(perigee_topics.kafka), killer.run())
    await wait_until_idle(instance)
    print(
        f"{killer.kills} kills, {sum(smtp.accepted.values())} mails, "
        f"{len(hook.first)} webhooks, {hook.repeats} repeats"
    )
    await check(instance, smtp, hook)
    instance.down()
    controller.stop()
    await hook.stop()


async def check(instance, smtp, hook):
    rows = await instance.fetch(
        "SELECT action_id, contact_id, channel, status, attempts FROM orchestrator.actions"
    )
    by_status: dict[str, set[str]] = {}
    for action, _, channel, status, _ in rows:
        by_status.setdefault(f"{channel} {status}", set()).add(action)
    print({name: len(actions) for name, actions in by_status.items()})
    assert len(rows) == 5 * CONTACTS, "a step of an enrollment has no action"
    sent, in_doubt = by_status.get("email sent", set()), by_status.get("email in_doubt", set())
    repeated = [name for name, count in smtp.accepted.items() if count > 1]
    assert repeated == [], "a mail went out twice"
    assert smtp.accepted.keys() <= sent | in_doubt
    assert sent <= smtp.accepted.keys() | smtp.discarded
    assert smtp.dropped <= in_doubt
    assert max(smtp.by_address.values()) <= MAILS_PER_DAY, "a cap was breached"
    assert not [
        address for address in smtp.by_address if int(address[1:].split("@")[0]) % 10 == 0
    ], "a mail went out without consent"
    assert by_status["webhook sent"] <= hook.first.keys()
    assert hook.first.keys() <= by_status["webhook sent"] | by_status.get("webhook failed", set())
    assert not [name for name in by_status if name.split()[1] in ("pending", "sending")]
    published_statuses = {}
    for record in await messages(instance.servers.kafka, "actions"):
        message = decode_value(Action, record.value)
        published_statuses.setdefault(message.action_id, set()).add(message.status)
    unpublished = [row[0] for row in rows if row[3] not in published_statuses.get(row[0], ())]
    assert unpublished == [], "the last status of an action is not on its topic"
