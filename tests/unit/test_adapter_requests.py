"""HTTP requests of external systems: signatures, dead letters of malformed events, rate limits."""

import base64
import json

import httpx2
import pytest

from libs.common.clock import FixedClock
from libs.common.messages import Touchpoint, decode_value
from libs.common.observability.health import HealthChecks
from services.ingest.adapters import Adapter
from services.ingest.adapters.registry import ADAPTERS
from services.ingest.api.tracking import TrackingApi
from services.ingest.domain import json_body
from services.ingest.domain.request_context import NormalisationRules
from services.ingest.domain.source import Source
from services.ingest.handlers.ingestion import IngestService
from services.ingest.tracker.script import TrackerScripts
from tests.contract.adapter_cases import load_case
from tests.support.tracking_fakes import NOW, FakePublisher
from tests.unit.hook_signatures import (
    SECONDS,
    SECRETS,
    SIGNERS,
    request_with_wrong_signature,
    signed_request,
)

BASIC = {"authorization": "Basic " + base64.b64encode(b"social:").decode()}


class AdapterSources:
    is_loaded = True

    def find(self, write_key):
        if write_key == "plain":
            return Source("default", "plain")
        return Source(
            "default",
            write_key,
            trust="server",
            adapter=write_key,
            signing_secret=SECRETS.get(write_key),
        )


@pytest.fixture
def publisher():
    return FakePublisher()


@pytest.fixture
async def client(publisher):
    app = TrackingApi(
        IngestService(AdapterSources(), publisher, FixedClock(NOW), 1, NormalisationRules()),
        TrackerScripts(),
        HealthChecks({}).app(),
    )
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app), base_url="http://ingest"
    ) as test_client:
        yield test_client


@pytest.mark.parametrize("name", SIGNERS)
async def test_signed_request_is_accepted_once(client, publisher, name):
    case, body, headers = signed_request(name)

    for _ in range(2):
        answer = await client.post(f"/v1/hook/{case['adapter']}", content=body, headers=headers)
        assert (answer.status_code, answer.json()) == (200, {"success": True})
    assert [decode_value(Touchpoint, m.value).name for m in publisher.kept] == [
        call["event"] for call in case["calls"]
    ]


@pytest.mark.parametrize("name", SIGNERS)
async def test_altered_old_or_unsigned_request_is_refused(client, publisher, name):
    case, body, headers = signed_request(name)
    url = f"/v1/hook/{case['adapter']}"

    if name == "mailgun-clicked":
        changed = body.replace(b'"t0"', b'"t1"')
    else:
        changed = body.replace(b"ada", b"bob").replace(b"Acme", b"Evil")

    assert (await client.post(url, content=changed, headers=headers)).status_code == 401
    for seconds in (SECONDS - 301, SECONDS + 301):
        _, old_body, old_headers = signed_request(name, seconds)
        assert (await client.post(url, content=old_body, headers=old_headers)).json()[
            "code"
        ] == "bad_signature"

    unsigned = json.dumps(
        {**load_case(name)["request"], "signature": {}}
        if name == "mailgun-clicked"
        else load_case(name)["request"]
    )

    assert (await client.post(url, content=unsigned)).status_code == 401
    assert publisher.kept == []


async def test_source_without_adapter_has_no_hook_endpoint(client):
    answer = await client.post("/v1/hook/plain", json={})

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_malformed_event_becomes_dead_letter_beside_valid_events(client, publisher):
    valid_event = load_case("social")["request"][0]

    answer = await client.post("/v1/hook/social", json=[valid_event, {"network": "x"}, 7])

    assert answer.status_code == 200
    assert [m.topic for m in publisher.kept] == [
        "touchpoints",
        "touchpoints-dlq",
        "touchpoints-dlq",
    ]

    headers = dict(publisher.kept[1].headers)

    assert (headers["x-dlq-adapter"], headers["x-dlq-reason"]) == (b"social", b"bad_event")
    assert json.loads(publisher.kept[1].value) == {"network": "x"}


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000])
async def test_invalid_json_is_refused(client, body):
    assert (await client.post("/v1/hook/social", content=body)).status_code == 400


@pytest.mark.parametrize("credentials", [{"headers": BASIC}, {"params": {"writeKey": "social"}}])
async def test_write_key_may_be_header_or_parameter(client, publisher, credentials):
    assert (
        await client.post("/v1/hook", json=load_case("social")["request"], **credentials)
    ).status_code == 200
    assert len(publisher.kept) == 5


async def test_adapter_failure_keeps_event_as_dead_letter(client, publisher, monkeypatch):
    def fail(event, settings):
        raise ZeroDivisionError

    monkeypatch.setitem(ADAPTERS, "social", Adapter(fail))

    assert (await client.post("/v1/hook/social", json={"a": 1})).status_code == 200
    assert dict(publisher.kept[0].headers)["x-dlq-reason"] == b"adapter_failed"


async def test_source_with_adapter_refuses_tracking_calls(client, publisher):
    call = {
        "type": "track",
        "event": "Unsubscribed",
        "context": {"traits": {"email": "a@b.test", "email_verified": True}},
    }

    for path, body in (("track", call), ("batch", {"batch": [call]})):
        answer = await client.post(f"/v1/{path}?writeKey=mailgun", json=body)
        assert (answer.status_code, answer.json()["code"]) == (403, "hooks_only")

    answer = await client.get("/v1/pixel.gif?writeKey=mailgun&type=page&anonymousId=a")

    assert answer.status_code == 403
    assert publisher.kept == []


async def test_event_too_large_for_dead_letter_is_refused(client, publisher):
    answer = await client.post(
        "/v1/hook", headers=BASIC, content=json.dumps({"x": "y" * json_body.MAX_DEAD_LETTER})
    )

    assert answer.status_code == 413
    assert publisher.kept == []


@pytest.mark.parametrize("secret", ["whsec_é", "whsec_%%%", "é"])
@pytest.mark.parametrize("adapter", ["resend", "sendgrid", "mailgun", "hubspot"])
async def test_unusable_signing_secret_is_unauthorized(client, monkeypatch, adapter, secret):
    monkeypatch.setitem(SECRETS, adapter, secret)
    content, headers = request_with_wrong_signature(adapter)

    answer = await client.post(
        "/v1/hook", headers={**headers, **basic_auth(adapter)}, content=content
    )

    assert answer.status_code == 401


def basic_auth(name):
    return {"authorization": "Basic " + base64.b64encode(f"{name}:".encode()).decode()}


async def test_unmapped_documents_count_against_rate_limit(publisher):
    mapping = {"each": "items", "calls": [{"call": {"type": "track", "event": "x", "userId": "u"}}]}

    class LimitedSources:
        is_loaded = True

        def find(self, write_key):
            return Source(
                "default",
                "erp",
                trust="server",
                adapter="webhook",
                adapter_settings=mapping,
                per_second=1,
            )

    app = TrackingApi(
        IngestService(LimitedSources(), publisher, FixedClock(NOW), 1, NormalisationRules()),
        TrackerScripts(),
        HealthChecks({}).app(),
    )

    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app), base_url="http://ingest"
    ) as client:
        statuses = [
            (await client.post("/v1/hook/k", json={"itemz": []})).status_code for _ in range(4)
        ]

    assert statuses == [200, 200, 429, 429]
    assert len(publisher.kept) == 2
