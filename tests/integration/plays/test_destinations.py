"""Delivery to destinations: webhooks, Slack, CRM tasks and the actions topic."""

import asyncio
import json

import pytest
import yaml
from standardwebhooks.webhooks import Webhook

from libs.common.clock import SystemClock
from services.orchestrator.webhooks.standard_webhooks import encode_secret
from tests.integration.plays.contacts import make_contacts, signal_message
from tests.integration.plays.play_texts import NOW, mail, play
from tests.support.scoring import Scoring
from tests.support.touchpoints import DAY, HOUR, identify
from tests.support.webhook_receiver import WebhookReceiver

SECRET = encode_secret(bytes(range(32)))


@pytest.fixture
async def receiver():
    webhook_receiver = WebhookReceiver()
    yield webhook_receiver
    await webhook_receiver.stop()


async def send_to_destination(orchestrator, receiver, channel="webhook", **more):
    """Publish a play that posts to a destination, and enroll a contact; return its id."""
    orchestrator.clock.instant = SystemClock().now()
    destination = {"destination": "crm", "channel": channel, "url": await receiver.start(), **more}
    await orchestrator.definitions.define(
        "default", "destination", yaml.safe_dump(destination), "test", "crm.yaml"
    )
    ids = await make_contacts(orchestrator, ["ada"], traits={"name": "Ada"})
    step = {
        "action": "tell",
        "channel": channel,
        "destination": "crm",
        "text": "{{ contact.name }} asked for a quote",
    }
    await orchestrator.publish(play([step]))
    await orchestrator.consume([signal_message(ids["ada"], at=orchestrator.clock.instant)])
    await orchestrator.run_due()
    return ids["ada"]


async def test_webhook_is_signed_with_contact_and_text(orchestrator, receiver):
    contact = await send_to_destination(orchestrator, receiver, secret=SECRET)
    ((headers, body),) = receiver.seen
    payload = Webhook(SECRET).verify(body.decode(), headers)

    data = payload["data"]

    assert (data["contact_id"], data["user_id"], data["text"]) == (
        contact,
        "ada",
        "Ada asked for a quote",
    )

    ((action,),) = await orchestrator.fetch("SELECT action_id FROM orchestrator.actions")

    assert headers["webhook-id"] == headers["idempotency-key"] == payload["id"] == action
    assert await orchestrator.fetch("SELECT count(*) FROM orchestrator.echoes") == [(0,)], (
        "a webhook was echoed as a touchpoint"
    )


async def test_webhook_is_retried_under_its_id(orchestrator, receiver):
    answers = [500, 503, 200]
    receiver.respond = lambda _: (answers.pop(0), {})
    await send_to_destination(orchestrator, receiver)

    for _ in range(3):
        orchestrator.clock.instant += HOUR
        await orchestrator.run_due()

    assert [status for status, _ in await orchestrator.action_states()] == ["sent"]
    assert len(receiver.webhook_ids) == 3
    assert len(set(receiver.webhook_ids)) == 1


async def test_rejected_webhook_is_not_retried(orchestrator, receiver):
    receiver.respond = lambda _: (422, {})
    await send_to_destination(orchestrator, receiver)

    assert await orchestrator.action_states() == [("failed", "the receiver answered 422")]


async def test_slack_post_without_response_is_in_doubt(orchestrator, receiver, monkeypatch):
    monkeypatch.setattr("services.orchestrator.webhooks.http_client.REQUEST_TIMEOUT_SECONDS", 0.3)
    receiver.respond = lambda payload: 5.0 if "Ada" in json.dumps(payload) else (200, {})

    await send_to_destination(orchestrator, receiver, "slack")

    assert [status for status, _ in await orchestrator.action_states()] == ["in_doubt"]

    orchestrator.clock.instant += DAY
    await orchestrator.run_due()

    assert [status for status, _ in await orchestrator.action_states()] == ["in_doubt"]


async def test_slack_retry_after_is_obeyed(orchestrator, receiver):
    answers = [(429, {"Retry-After": "600"}), (200, {})]
    receiver.respond = lambda _: answers.pop(0)
    await send_to_destination(orchestrator, receiver, "slack")
    orchestrator.clock.instant += 599_000_000

    await orchestrator.run_due()

    assert len(receiver.seen) == 1

    orchestrator.clock.instant += 2_000_000
    await orchestrator.run_due()

    assert [json.loads(body) for _, body in receiver.seen] == [
        {"text": "Ada asked for a quote"}
    ] * 2
    assert [status for status, _ in await orchestrator.action_states()] == ["sent"]


async def test_crash_repeats_webhook_and_not_mail(orchestrator, receiver, mailbox):
    await send_to_destination(orchestrator, receiver)
    await orchestrator.publish(play([mail()], "other"))
    ((contact,),) = await orchestrator.fetch("SELECT contact_id FROM orchestrator.enrollments")
    await orchestrator.consume([signal_message(contact, at=orchestrator.clock.instant, number=7)])
    sql = "UPDATE orchestrator.actions SET status = 'sending', attempts = 1, due_at = 0 RETURNING 1"
    await orchestrator.fetch(sql)
    await orchestrator.run_due()

    rows = dict(
        await orchestrator.fetch("SELECT channel || attempts, status FROM orchestrator.actions")
    )

    assert rows == {"webhook2": "sent", "email1": "in_doubt"}
    assert mailbox.mails == []


@pytest.mark.parametrize("crm", ["hubspot", "salesforce"])
async def test_crm_task_names_the_crm_contact(orchestrator, database, crm):
    """Requests follow the vendors' public documentation; the vendors' APIs are not called."""
    requests = []

    async def answer(reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(
            next(
                line for line in head.lower().split("\r\n") if line.startswith("content-length")
            ).split(":")[1]
        )
        requests.append((head, json.loads(await reader.readexactly(length))))
        writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    ids = await make_contacts(orchestrator, ["ada", "bob"])
    scoring = Scoring(database)
    await scoring.ingest(
        [identify(HOUR, "ada", None, number="x", external_ids={crm: "701"}, trust="server")]
    )
    await scoring.close()
    destination = {
        "destination": "tasks",
        "channel": "crm_task",
        "crm": crm,
        "url": url,
        "secret": "token",
    }
    await orchestrator.definitions.define(
        "default", "destination", yaml.safe_dump(destination), "test", "tasks.yaml"
    )
    step = {
        "action": "call",
        "channel": "crm_task",
        "destination": "tasks",
        "text": "Call {{ contact.email }}",
    }
    await orchestrator.publish(play([step]))
    await orchestrator.consume([signal_message(ids[name], at=NOW) for name in ids])
    await orchestrator.run_due()
    assert sorted(await orchestrator.action_states()) == [
        ("failed", f"{crm} does not know the contact: it has no id there"),
        ("sent", "the receiver answered 201"),
    ]
    ((head, task),) = requests
    assert "authorization: bearer token" in head.lower()
    if crm == "hubspot":
        assert head.startswith("POST /crm/v3/objects/tasks ")
        assert task["properties"]["hs_task_subject"] == "Call ada@x.test"
        assert task["associations"][0]["to"] == {"id": "701"}
    else:
        assert head.startswith("POST /services/data/v60.0/sobjects/Task ")
        assert (task["Subject"], task["WhoId"]) == ("Call ada@x.test", "701")
    server.close()


async def test_kafka_action_is_published_on_topic(orchestrator):
    ids = await make_contacts(orchestrator, ["ada"])
    await orchestrator.publish(
        play(
            [
                {
                    "action": "sms",
                    "channel": "kafka",
                    "text": "Hi",
                    "data": {"to": "{{ contact.email }}"},
                }
            ]
        )
    )
    await orchestrator.consume([signal_message(ids["ada"], at=NOW)])
    await orchestrator.run_due()
    rows = await orchestrator.fetch("SELECT value FROM orchestrator.outbox WHERE topic = 'actions'")

    (message,) = [json.loads(value) for (value,) in rows]

    assert (message["status"], message["channel"], message["data"]["fields"]) == (
        "sent",
        "kafka",
        {"to": "ada@x.test"},
    )
