"""The gate under many hands: caps, priorities, consents, content; and destinations that drop repeats, or do not."""

import asyncio
import json
from datetime import time

import pytest
import yaml
from standardwebhooks.webhooks import Webhook

from libs.common.clock import SystemClock
from services.orchestrator.domain.gate import GateRules
from services.orchestrator.webhooks.standard_webhooks import encode_secret
from tests.integration.plays.contacts import make_contacts, signal_message
from tests.integration.plays.play_texts import NOW, mail, play
from tests.support.orchestrator import Orchestrator
from tests.support.scoring import Scoring
from tests.support.touchpoints import DAY, HOUR, identify
from tests.support.webhook_receiver import WebhookReceiver

SECRET = encode_secret(bytes(range(32)))


@pytest.fixture
async def receiver():
    found = WebhookReceiver()
    yield found
    await found.stop()


@pytest.mark.capability(55)
async def test_sixteen_hands_breach_no_cap_and_the_higher_priority_goes_first(database, mailbox):
    rules = GateRules(cap_per_day=1, cap_per_week=3)
    hands = [Orchestrator(database, mailbox, rules) for _ in range(16)]
    await hands[0].install()
    names = [f"p{number}" for number in range(25)]
    ids = await make_contacts(hands[0], names)
    for number in range(5):
        await hands[0].publish(play([mail(f"m{number}")], f"play-{number}", priority=number))
    for day in range(6):
        for one in hands:
            one.clock.instant = NOW + day * DAY
        await hands[0].consume(
            [signal_message(ids[name], at=NOW + day * DAY, number=day) for name in names]
        )
        for _ in range(6):
            await asyncio.gather(*(one.dispatch_due() for one in hands))
        assert len(mailbox.mails) == len(names) * min(day + 1, 3)
    assert {
        mail.content.decode().split("Subject: ")[1].split("\r")[0] for mail in mailbox.mails
    } == {"m4"}
    counts = dict(
        await hands[0].fetch("SELECT status, count(*) FROM orchestrator.actions GROUP BY 1")
    )
    assert counts == {"sent": 75, "capped": 25 * 5 * 6 - 75}
    reasons = dict(
        await hands[0].fetch(
            "SELECT reason, count(*) FROM orchestrator.actions WHERE status = 'capped' GROUP BY 1"
        )
    )
    assert reasons.keys() == {"cap_of_1_per_day", "cap_of_3_per_week"}
    for one in hands:
        await one.close()


async def test_after_a_week_the_cap_has_room_again(database, mailbox):
    found = Orchestrator(database, mailbox, GateRules(cap_per_day=1, cap_per_week=1))
    await found.install()
    ids = await make_contacts(found, ["ada"])
    await found.publish(play([mail()]))
    for day in (0, 6, 7):
        found.clock.instant = NOW + day * DAY
        await found.consume([signal_message(ids["ada"], at=NOW + day * DAY, number=day)])
        await found.run_due()
    assert [r[0] for r in sorted(await found.fetch("SELECT status FROM orchestrator.actions"))] == [
        "capped",
        "sent",
        "sent",
    ]
    await found.close()


async def test_a_consent_that_is_withdrawn_while_a_mail_is_held_is_seen(database, mailbox):
    found = Orchestrator(database, mailbox, GateRules(quiet_from=time(0), quiet_to=time(23)))
    await found.install()
    ids = await make_contacts(found, ["ada", "bob"])
    await found.publish(play([mail()]))
    found.clock.instant = NOW - NOW % DAY + HOUR
    await found.consume([signal_message(ids[name], at=found.clock.instant) for name in ids])
    await found.run_due()
    assert {status for status, _ in await found.action_states()} == {"held"}
    await found.consume(
        [signal_message(ids["ada"], "consent_withdrawn", found.clock.instant + 1, 1)]
    )
    found.clock.instant += 22 * HOUR
    await found.run_due()
    assert mailbox.recipients == ["bob@x.test"]
    assert sorted(await found.action_states())[1] == ("suppressed", "consent_withdrawn")
    await found.close()


CONTENTS = [
    {"content": "trial", "type": "trial", "title": "Try it", "url": "/trial", "priority": 9},
    {
        "content": "story",
        "type": "case_study",
        "title": "How others do",
        "url": "/story",
        "priority": 8,
    },
    {
        "content": "guide",
        "type": "own_guide",
        "title": "A guide",
        "url": "/guide",
        "levels": ["problem_aware"],
        "priority": 1,
    },
    {
        "content": "faq",
        "type": "article",
        "title": "Questions",
        "url": "/faq",
        "channels": ["onsite"],
        "priority": 7,
    },
]


async def test_what_comes_too_early_is_held_back_and_what_was_seen_is_not_shown_again(
    orchestrator, mailbox
):
    ids = await make_contacts(orchestrator, ["ada"])
    for one in CONTENTS:
        await orchestrator.definitions.define(
            "default", "content", yaml.safe_dump(one), "test", "content.yaml"
        )
    wanted = {"types": ["trial", "case_study", "own_guide", "article"]}
    text = mail(content=wanted, mail={"subject": "{{ content.title }}", "text": "t"})
    await orchestrator.publish(play([text]))
    for number in range(2):
        await orchestrator.consume([signal_message(ids["ada"], at=NOW, number=number)])
        await orchestrator.run_due()
    assert ["Subject: A guide" in mail.content.decode() for mail in mailbox.mails] == [True]
    rows = await orchestrator.fetch(
        "SELECT status, reason, content FROM orchestrator.actions ORDER BY status DESC"
    )
    assert rows[0][0] == "skipped"
    assert "trial: too early: trial from validation on" in rows[0][1]
    assert "case_study from qualified on" in rows[0][1]
    assert "guide: seen" in rows[0][1]
    assert "faq: not for email" in rows[0][1]
    await orchestrator.publish(
        play([mail(content={**wanted, "override_gate": True}, mail=text["mail"])])
    )
    await orchestrator.consume([signal_message(ids["ada"], at=NOW, number=3)])
    await orchestrator.run_due()
    assert "Subject: Try it" in mailbox.mails[1].content.decode()


async def tell(orchestrator, receiver, channel="webhook", **more):
    """A play that posts to a destination, and somebody in it."""
    orchestrator.clock.instant = SystemClock().now()
    place = {"destination": "crm", "channel": channel, "url": await receiver.start(), **more}
    await orchestrator.definitions.define(
        "default", "destination", yaml.safe_dump(place), "test", "crm.yaml"
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


async def test_a_webhook_is_signed_and_says_who_and_why(orchestrator, receiver):
    contact = await tell(orchestrator, receiver, secret=SECRET)
    ((headers, body),) = receiver.seen
    told = Webhook(SECRET).verify(body.decode(), headers)
    data = told["data"]
    assert (data["contact_id"], data["user_id"], data["text"]) == (
        contact,
        "ada",
        "Ada asked for a quote",
    )
    ((action,),) = await orchestrator.fetch("SELECT action_id FROM orchestrator.actions")
    assert headers["webhook-id"] == headers["idempotency-key"] == told["id"] == action
    assert await orchestrator.fetch("SELECT count(*) FROM orchestrator.echoes") == [(0,)], (
        "it touched nobody"
    )


async def test_a_webhook_that_may_have_arrived_goes_again_under_its_id(orchestrator, receiver):
    answers = [500, 503, 200]
    receiver.answering = lambda _: (answers.pop(0), {})
    await tell(orchestrator, receiver)
    for _ in range(3):
        orchestrator.clock.instant += HOUR
        await orchestrator.run_due()
    assert [status for status, _ in await orchestrator.action_states()] == ["sent"]
    assert len(receiver.webhook_ids) == 3
    assert len(set(receiver.webhook_ids)) == 1


async def test_a_webhook_that_is_rejected_is_not_tried_again(orchestrator, receiver):
    receiver.answering = lambda _: (422, {})
    await tell(orchestrator, receiver)
    assert await orchestrator.action_states() == [("failed", "the receiver answered 422")]


async def test_slack_gets_a_text_once_and_what_may_have_been_posted_is_in_doubt(
    orchestrator, receiver, monkeypatch
):
    monkeypatch.setattr("services.orchestrator.webhooks.http_client.REQUEST_TIMEOUT_SECONDS", 0.3)
    receiver.answering = lambda told: 5.0 if "Ada" in json.dumps(told) else (200, {})
    await tell(orchestrator, receiver, "slack")
    assert [status for status, _ in await orchestrator.action_states()] == ["in_doubt"]
    orchestrator.clock.instant += DAY
    await orchestrator.run_due()
    assert [status for status, _ in await orchestrator.action_states()] == ["in_doubt"]


async def test_slack_that_is_too_busy_is_asked_again_when_it_says(orchestrator, receiver):
    answers = [(429, {"Retry-After": "600"}), (200, {})]
    receiver.answering = lambda _: answers.pop(0)
    await tell(orchestrator, receiver, "slack")
    orchestrator.clock.instant += 599_000_000
    await orchestrator.run_due()
    assert len(receiver.seen) == 1
    orchestrator.clock.instant += 2_000_000
    await orchestrator.run_due()
    assert [json.loads(body) for _, body in receiver.seen] == [
        {"text": "Ada asked for a quote"}
    ] * 2
    assert [status for status, _ in await orchestrator.action_states()] == ["sent"]


async def test_a_process_that_died_in_a_webhook_sends_it_again_and_in_a_mail_does_not(
    orchestrator, receiver, mailbox
):
    await tell(orchestrator, receiver)
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
async def test_a_task_in_a_crm_is_about_the_contact_that_it_knows(orchestrator, database, crm):
    """After the vendors' public documentation; not run against them."""
    asked = []

    async def answer(reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(
            next(
                line for line in head.lower().split("\r\n") if line.startswith("content-length")
            ).split(":")[1]
        )
        asked.append((head, json.loads(await reader.readexactly(length))))
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
    place = {
        "destination": "tasks",
        "channel": "crm_task",
        "crm": crm,
        "url": url,
        "secret": "token",
    }
    await orchestrator.definitions.define(
        "default", "destination", yaml.safe_dump(place), "test", "tasks.yaml"
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
        ("failed", f"{crm} does not know the contact: it has no id there"), ("sent", "the receiver answered 201"),
    ]  # fmt: skip
    ((head, task),) = asked
    assert "authorization: bearer token" in head.lower()
    if crm == "hubspot":
        assert head.startswith("POST /crm/v3/objects/tasks ")
        assert task["properties"]["hs_task_subject"] == "Call ada@x.test"
        assert task["associations"][0]["to"] == {"id": "701"}
    else:
        assert head.startswith("POST /services/data/v60.0/sobjects/Task ")
        assert (task["Subject"], task["WhoId"]) == ("Call ada@x.test", "701")
    server.close()


async def test_whoever_executes_actions_reads_them_on_the_topic(orchestrator):
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
    (told,) = [json.loads(value) for (value,) in rows]
    assert (told["status"], told["channel"], told["data"]["fields"]) == (
        "sent",
        "kafka",
        {"to": "ada@x.test"},
    )
