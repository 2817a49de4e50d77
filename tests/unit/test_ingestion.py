"""Responses of ingest as SDKs see them, without Kafka."""

import asyncio
import base64
import json

import httpx2
import msgspec
import pytest

from libs.common.clock import FixedClock
from libs.common.errors import Unavailable
from libs.common.messages import Touchpoint
from libs.common.observability import metrics
from libs.common.observability.health import HealthChecks
from services.ingest.api.byte_budget import ByteBudget
from services.ingest.api.tracking import TrackingApi
from services.ingest.domain import json_body
from services.ingest.domain.request_context import NormalisationRules
from services.ingest.handlers.ingestion import IngestService
from services.ingest.handlers.message_reader import MIN_MESSAGE_BYTES, SLICE_BYTES
from services.ingest.tracker.script import TrackerScripts
from tests.support.tracking_fakes import NOW, TRACK


async def test_success_is_200_with_a_json_object(client, publisher):
    answer = await client.post("/v1/track", json=TRACK)
    assert (answer.status_code, answer.json()) == (200, {"success": True})
    (message,) = publisher.kept
    assert message.key == b"default:u"
    headers = dict(message.headers)

    assert headers["ce_type"] == b"perigee.touchpoint.v1"
    assert headers["content-type"] == b"application/json"
    assert msgspec.json.decode(message.value, type=Touchpoint).name == "x"


@pytest.mark.parametrize("path", ["/v1/track", "/v1/track/", "//v1//track", "/v1/t"])
async def test_paths_are_tolerant(client, path):
    assert (await client.post(f"http://door{path}", json=TRACK)).status_code == 200


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("identify", {"userId": "u", "traits": {"email": "e"}}),
        ("page", {"anonymousId": "a", "name": "Home"}),
        ("screen", {"anonymousId": "a"}),
        ("group", {"userId": "u", "groupId": "g"}),
        ("alias", {"userId": "u", "previousId": "p"}),
    ],
)
async def test_call_type_comes_from_the_path(client, publisher, path, message):
    assert (await client.post(f"/v1/{path}", json=message)).status_code == 200
    assert msgspec.json.decode(publisher.kept[0].value, type=Touchpoint).type == path


async def test_write_key_in_body_or_query(client):
    client.auth = None
    assert (await client.post("/v1/track", json={**TRACK, "writeKey": "good"})).status_code == 200
    assert (await client.post("/v1/batch?writeKey=good", json={"batch": []})).status_code == 200
    no_colon = base64.b64encode(b"good").decode()
    answer = await client.post(
        "/v1/track", json=TRACK, headers={"authorization": f"Basic {no_colon}"}
    )

    assert answer.status_code == 200


@pytest.mark.parametrize("auth", [None, ("bad", ""), ("", "")])
async def test_an_unknown_key_is_401(client, publisher, auth):
    client.auth = auth

    answer = await client.post("/v1/track", json=TRACK)

    assert answer.status_code == 401
    assert set(answer.json()) == {"code", "message"}
    assert not publisher.kept


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [(b"{", 400, "bad_json"), (b"[]", 400, "bad_shape"), (b" " * 4_194_305, 413, "too_large")],
)
async def test_unreadable_body_is_refused(client, content, status, code):
    answer = await client.post("/v1/batch", content=content)

    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_other_methods_and_paths_are_refused(client):
    assert (await client.get("/v1/track")).status_code == 405
    assert (await client.post("/v1/dance", json=TRACK)).status_code == 404


async def test_kafka_away_is_503_with_retry_after(client, publisher):
    publisher.fault = Unavailable("no broker")

    answer = await client.post("/v1/track", json=TRACK)

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


async def test_sources_not_loaded_is_503(client, sources):
    sources.is_loaded = False

    assert (await client.post("/v1/track", json=TRACK)).status_code == 503


async def test_health_and_metrics(client):
    assert (await client.get("/livez")).json()["alive"]
    assert (await client.get("/readyz")).json()["ready"]
    assert "perigee_events_ingested_total" in (await client.get("/metrics")).text


async def test_a_failing_check_is_not_ready_and_named():
    async def bad():
        raise OSError("gone")

    app = HealthChecks({"database": bad}, lambda: "stuck").app()
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app), base_url="http://h"
    ) as client:
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()["checks"]) == (503, {"database": "OSError: gone"})
        assert (await client.get("/livez")).status_code == 503


async def test_unknown_key_is_refused_before_reading_the_body(publisher, sources):
    app = TrackingApi(
        IngestService(sources, publisher, FixedClock(NOW), 1, NormalisationRules()),
        TrackerScripts(),
        HealthChecks({}).app(),
    )
    said = []

    async def receive():
        raise AssertionError("it was read")

    async def send(message):
        said.append(message)

    headers = [(b"authorization", b"Basic " + base64.b64encode(b"bad:"))]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/track",
        "headers": headers,
        "query_string": b"",
    }
    await app(scope, receive, send)
    assert said[0]["status"] == 401


async def test_byte_budget_bounds_requests(client, publisher, monkeypatch):
    api = client._transport.app
    api._budget, api._unsized_budget = ByteBudget(1_000), ByteBudget(500)
    big = {**TRACK, "properties": {"x": "y" * 700}}
    assert (await client.post("/v1/track", json=big)).status_code == 200
    client.auth = None
    answer = await client.post("/v1/track", json={**big, "writeKey": "good"})

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert (
        await client.post("/v1/track", json={**TRACK, "writeKey": "good"})
    ).status_code == 200, "all is given back"


async def test_too_large_content_length_is_not_read(client):
    answer = await client.post("/v1/track", content=b"{}", headers={"content-length": "5000000"})

    assert answer.status_code == 413


async def test_too_large_message_is_413(client, publisher):
    large = {**TRACK, "properties": {"x": "y" * json_body.MAX_EVENT}}
    assert (await client.post("/v1/track", json=large)).status_code == 413
    batch = {"batch": [{"type": "track", **large}, {"type": "track", **TRACK}]}
    assert (await client.post("/v1/batch", json=batch)).status_code == 200
    dead, taken = sorted(publisher.kept, key=lambda m: m.topic, reverse=True)
    assert json.loads(dead.value)["properties"] == large["properties"], "it is kept whole"
    assert taken.topic == "touchpoints"
    publisher.kept.clear()
    batch["batch"][0]["properties"] = {"x": "y" * json_body.MAX_DEAD_LETTER}

    assert (await client.post("/v1/batch", json=batch)).status_code == 413, "it could not be kept"
    assert publisher.kept == []


@pytest.mark.parametrize(
    ("count", "size", "said"),
    [(5 * SLICE_BYTES // MIN_MESSAGE_BYTES, 0, 0), (8, SLICE_BYTES, 0), (40, 0, 16_000)],
)
async def test_large_batch_yields_to_other_requests(client, count, size, said):
    turns = []

    async def other():
        while True:
            turns.append(1)
            await asyncio.sleep(0)

    message = {"type": "track", **TRACK, "properties": {"x": "y" * size}}
    task = asyncio.create_task(other())
    await client.post("/v1/batch", json={"batch": [message] * count, "context": {"x": "z" * said}})
    task.cancel()
    assert len(turns) >= 4


async def test_refused_requests_are_counted(client):
    def count(code):
        return metrics.REQUESTS_REFUSED.labels(code=code)._value.get()

    before = count("unknown_write_key"), count("bad_json")
    await client.post("/v1/track", json=TRACK, auth=("wrong", ""))
    await client.post("/v1/track", content=b"{")
    assert (count("unknown_write_key"), count("bad_json")) == (before[0] + 1, before[1] + 1)


async def test_message_that_grows_does_not_affect_others(client, publisher):
    numbers = "1e15," * (json_body.MAX_EVENT // 5 - 40)
    grown = f'{{"type":"track","event":"x","userId":"u","properties":{{"n":[{numbers}1]}}}}'
    content = f'{{"batch":[{grown},{{"type":"track","event":"x","userId":"u"}}]}}'
    assert (await client.post("/v1/batch", content=content)).status_code == 200
    dead, taken = sorted(publisher.kept, key=lambda m: m.topic, reverse=True)

    assert (dict(dead.headers)["x-dlq-reason"], taken.topic) == (b"too_large", "touchpoints")
