"""No personal data reaches a log or a metric by any endpoint or topic, valid or malformed."""

import asyncio
import base64
import json

import httpx2
import pytest

from libs.common.kafka.publisher import Publisher
from libs.common.messages import Message
from tests.support.instance import Instance

pytestmark = pytest.mark.timeout(200)
MAIL, PHONE, NAME, SECRET = (
    "canary.bird@cage.test",
    "+33 6 99 88 77 66",
    "Canaryname",
    "canary-write-key",
)
WORDS = ("canary", "99 88 77 66", "33699887766", "0699887766")
PERSON = {"email": MAIL, "phone": PHONE, "firstName": NAME}
IDS = {"userId": f"user-{MAIL}", "anonymousId": "device-canary"}


@pytest.fixture
async def instance(tmp_path, perigee_topics, database):
    running = Instance(tmp_path, perigee_topics, database)
    await asyncio.to_thread(running.up)
    yield running
    await asyncio.to_thread(running.down)


def calls():
    good = {
        "type": "identify",
        **IDS,
        "traits": PERSON,
        "context": {"consent": {"categoryPreferences": {"marketing": True}}},
    }
    yield good
    yield {"type": "track", **IDS, "event": "Newsletter Subscribed", "properties": PERSON}
    yield {
        "type": "track",
        **IDS,
        "event": "Order Completed",
        "properties": {"total": NAME, **PERSON},
    }
    yield {**good, "timestamp": f"when {MAIL} came"}
    yield {**good, "type": MAIL}
    yield {**good, "traits": [PERSON]}
    yield {**good, "userId": {"mail": MAIL}}
    yield {"type": "track", "event": MAIL, "properties": PERSON}
    yield {**good, "messageId": MAIL * 60}


async def send_by_http(instance, key):
    """Send valid and malformed requests to every ingest endpoint; return the metrics page."""
    auth = {"authorization": "Basic " + base64.b64encode(f"{key}:".encode()).decode()}
    admin = {"authorization": f"Bearer {instance.environment['PERIGEE_ADMIN_KEY']}"}
    async with httpx2.AsyncClient(
        base_url=instance.ingest_url, timeout=20, trust_env=False
    ) as client:
        for call in calls():
            await client.post(
                "/v1/batch", headers=auth, json={"batch": [call], "context": {"traits": PERSON}}
            )
            await client.post("/v1/identify", headers=auth, json=call)
        await client.post("/v1/track", headers=auth, content=f'{{"email": "{MAIL}"'.encode())
        await client.post("/v1/track", headers={"authorization": f"Basic {MAIL}"}, json=PERSON)
        await client.post("/v1/track", params={"writeKey": SECRET}, json=PERSON)
        await client.get(
            "/v1/pixel.gif",
            params={"writeKey": key, "userId": MAIL, "event": NAME, "url": f"https://x/?m={MAIL}"},
        )
        await client.post(f"/v1/hook/{SECRET}", json=PERSON)
        await client.post(
            "/admin/v1/sources",
            headers=admin,
            json={"name": "mail", "trust": "server", "adapter": "social"},
        )
        hook_key = (
            await client.post("/admin/v1/sources/mail/keys", headers=admin, json={})
        ).json()["write_key"]
        for event in (
            PERSON,
            {"network": "x", "interaction": "like", "id": MAIL, "at": NAME, "actor": {"id": MAIL}},
        ):
            await client.post(f"/v1/hook/{hook_key}", json=event)
        file = (
            "userId,event,timestamp,traits.email\n"
            f"{MAIL},{NAME},never,{MAIL}\n{MAIL},x,2026-05-01,{MAIL}\n"
        )
        await client.post(
            "/admin/v1/imports",
            headers=admin,
            params={"source": "mail", "name": "a.csv"},
            content=file.encode(),
        )
        await client.patch(f"/admin/v1/sources/{MAIL}", headers=admin, json={"trust": NAME})
        await client.get("/admin/v1/dlq", headers=admin, params={"text": MAIL})
        return (await client.get("/metrics")).text


async def publish_malformed(servers):
    publisher = Publisher(servers.kafka)
    broken = [
        json.dumps(PERSON).encode(),
        MAIL.encode(),
        json.dumps({**PERSON, "occurred_at": MAIL}).encode(),
    ]
    messages = [
        Message(topic, MAIL.encode(), value, headers)
        for topic in ("touchpoints", "stage-changes", "signals")
        for value in broken
        for headers in ([], [("ce_type", NAME.encode())])
    ]
    assert not any(await publisher.publish(messages, 20))
    await publisher.close()


async def test_logs_and_metrics_contain_no_personal_data(instance):
    key = await instance.create_source("web")
    metrics = await send_by_http(instance, key)
    await publish_malformed(instance.servers)
    await instance.wait_until_idle(60)
    environment = instance.environment
    async with httpx2.AsyncClient(trust_env=False) as client:
        metrics += (await client.get(f"{environment['SCORING_URL']}/metrics")).text
        admin = {"authorization": f"Bearer {environment['PERIGEE_ADMIN_KEY']}"}
        response = await client.get(
            f"{environment['SCORING_URL']}/v1/contacts/{MAIL}", headers=admin
        )
        assert response.status_code == 200, "the canary contact is not stored"

    logs = {
        file.name: file.read_text(errors="replace")
        for file in (instance.stack.home.folder / "logs").iterdir()
    }

    assert {"ingest.log", "scoring.log", "orchestrator.log"} <= set(logs)

    for name, text in {**logs, "metrics": metrics}.items():
        if name.startswith(("mail", "kafka", "postgres")):
            continue
        lines = [line for line in text.splitlines() if any(word in line.lower() for word in WORDS)]
        assert not lines, (name, lines[:3])
