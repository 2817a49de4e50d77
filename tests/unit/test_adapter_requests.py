"""What other systems send, at the door: whose it is, whether it is signed, what becomes of what cannot be read."""

import base64
import contextlib
import hmac
import json
from hashlib import sha256

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from libs.common.clock import FixedClock
from libs.common.errors import ConfigurationError
from libs.common.messages import Touchpoint, decode_value
from libs.common.observability.health import HealthChecks
from services.ingest.adapters import Adapter
from services.ingest.adapters.registry import ADAPTERS
from services.ingest.api.tracking import TrackingApi
from services.ingest.domain import json_body
from services.ingest.domain.json_path import get_at, parse_path
from services.ingest.domain.request_context import NormalisationRules
from services.ingest.domain.source import Source
from services.ingest.handlers.ingestion import IngestService
from services.ingest.tracker.script import TrackerScripts
from tests.contract.adapter_cases import load_case
from tests.unit.test_ingestion import NOW, FakePublisher

SECONDS = NOW // 1_000_000
KEY = generate_private_key(SECP256R1())
PUBLIC = base64.b64encode(
    KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
).decode()
STANDARD = "whsec_" + base64.b64encode(b"k" * 24).decode()
SECRETS = {"sendgrid": PUBLIC, "mailgun": "mg-key", "hubspot": "hs-key", "resend": STANDARD}
BASIC = {"authorization": "Basic " + base64.b64encode(b"social:").decode()}


class Sources:
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
        IngestService(Sources(), publisher, FixedClock(NOW), 1, NormalisationRules()),
        TrackerScripts(),
        HealthChecks({}).app(),
    )
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app), base_url="http://door"
    ) as found:
        yield found


def digest(key, content):
    return hmac.new(key, content, sha256).digest()


def mailgun(body, seconds):
    document = json.loads(body)
    signature = digest(b"mg-key", f"{seconds}t0".encode()).hex()
    document["signature"] = {"timestamp": str(seconds), "token": "t0", "signature": signature}
    return json.dumps(document).encode(), {}


def sendgrid(body, seconds):
    signature = base64.b64encode(KEY.sign(str(seconds).encode() + body, ECDSA(SHA256()))).decode()
    name = "X-Twilio-Email-Event-Webhook"
    return body, {f"{name}-Timestamp": str(seconds), f"{name}-Signature": signature}


def resend(body, seconds):
    signature = base64.b64encode(digest(b"k" * 24, f"m1.{seconds}.".encode() + body)).decode()
    return body, {
        "svix-id": "m1",
        "svix-timestamp": str(seconds),
        "svix-signature": f"v1,AAAA v1,{signature}",
    }


def hubspot(body, seconds):
    stamp = str(seconds * 1_000)
    signed = b"POSThttp://door/v1/hook/hubspot" + body + stamp.encode()
    signature = base64.b64encode(digest(b"hs-key", signed)).decode()
    return body, {"X-HubSpot-Request-Timestamp": stamp, "X-HubSpot-Signature-v3": signature}


SIGNED = {
    "mailgun-clicked": mailgun,
    "sendgrid": sendgrid,
    "resend-clicked": resend,
    "hubspot-deal": hubspot,
}


def request(name, seconds=SECONDS):
    case = load_case(name)
    body, headers = SIGNED[name](json.dumps(case["request"]).encode(), seconds)
    return case, body, headers


@pytest.mark.parametrize("name", SIGNED)
async def test_a_signed_request_is_taken_once(client, publisher, name):
    case, body, headers = request(name)
    for _ in range(2):
        answer = await client.post(f"/v1/hook/{case['adapter']}", content=body, headers=headers)
        assert (answer.status_code, answer.json()) == (200, {"success": True})
    assert [decode_value(Touchpoint, m.value).name for m in publisher.kept] == [
        call["event"] for call in case["calls"]
    ]


@pytest.mark.parametrize("name", SIGNED)
async def test_a_request_that_was_changed_or_is_old_or_unsigned_is_refused(client, publisher, name):
    case, body, headers = request(name)
    url = f"/v1/hook/{case['adapter']}"
    changed = (
        body
        if name == "mailgun-clicked"
        else body.replace(b"ada", b"bob").replace(b"Acme", b"Evil")
    )
    if name == "mailgun-clicked":
        changed = body.replace(b'"t0"', b'"t1"')
    assert (await client.post(url, content=changed, headers=headers)).status_code == 401
    for seconds in (SECONDS - 301, SECONDS + 301):
        _, old, old_headers = request(name, seconds)
        assert (await client.post(url, content=old, headers=old_headers)).json()[
            "code"
        ] == "bad_signature"
    unsigned = json.dumps(
        {**load_case(name)["request"], "signature": {}}
        if name == "mailgun-clicked"
        else load_case(name)["request"]
    )
    assert (await client.post(url, content=unsigned)).status_code == 401
    assert publisher.kept == []


async def test_a_source_without_an_adapter_takes_no_hooks(client):
    answer = await client.post("/v1/hook/plain", json={})
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_what_cannot_be_read_is_a_dead_letter_and_costs_no_other(client, publisher):
    good = load_case("social")["request"][0]
    answer = await client.post("/v1/hook/social", json=[good, {"network": "x"}, 7])
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
async def test_what_is_no_json_is_refused(client, body):
    assert (await client.post("/v1/hook/social", content=body)).status_code == 400


@pytest.mark.parametrize("key", [{"headers": BASIC}, {"params": {"writeKey": "social"}}])
async def test_the_key_may_stand_elsewhere(client, publisher, key):
    assert (
        await client.post("/v1/hook", json=load_case("social")["request"], **key)
    ).status_code == 200
    assert len(publisher.kept) == 5


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("", {"a": [{"b c": 1}, 2], "event-data": {"id": 3}}),
        ("a[0]", {"b c": 1}),
        ('a[0]["b c"]', 1),
        ("a[-1]", 2),
        ("event-data.id", 3),
        ("a[9]", None),
        ("a.b", None),
        ("event-data.id.x", None),
        ("event-data[0]", None),
    ],
)
def test_paths(path, found):
    assert get_at(parse_path(path), {"a": [{"b c": 1}, 2], "event-data": {"id": 3}}) == found


@pytest.mark.parametrize(
    "path",
    [
        ".a",
        "a.",
        "a..b",
        "a[",
        "a[x]",
        "a[1",
        "a b",
        "a[*]",
        "__import__('os')",
        3,
        None,
        "a" + ".a" * 20,
    ],
)
def test_what_is_no_path(path):
    with pytest.raises(ConfigurationError):
        parse_path(path)


@given(st.text(max_size=60))
def test_any_text_is_a_path_or_is_refused(text):
    with contextlib.suppress(ConfigurationError):
        get_at(parse_path(text), {"a": [1]})


async def test_a_bug_in_an_adapter_loses_nothing(client, publisher, monkeypatch):
    def broken(event, settings):
        raise ZeroDivisionError

    monkeypatch.setitem(ADAPTERS, "social", Adapter(broken))
    assert (await client.post("/v1/hook/social", json={"a": 1})).status_code == 200
    assert dict(publisher.kept[0].headers)["x-dlq-reason"] == b"adapter_failed"


async def test_a_source_of_signed_events_takes_nothing_unsigned_by_another_path(client, publisher):
    call = {
        "type": "track",
        "event": "Unsubscribed",
        "context": {"traits": {"email": "a@b.test", "email_verified": True}},
    }
    for path, said in (("track", call), ("batch", {"batch": [call]})):
        answer = await client.post(f"/v1/{path}?writeKey=mailgun", json=said)
        assert (answer.status_code, answer.json()["code"]) == (403, "hooks_only")
    answer = await client.get("/v1/pixel.gif?writeKey=mailgun&type=page&anonymousId=a")
    assert answer.status_code == 403
    assert publisher.kept == []


async def test_an_event_that_could_not_be_kept_is_refused_with_its_request(client, publisher):
    answer = await client.post(
        "/v1/hook", headers=BASIC, content=json.dumps({"x": "y" * json_body.MAX_DEAD_LETTER})
    )
    assert answer.status_code == 413
    assert publisher.kept == []


@pytest.mark.parametrize("secret", ["whsec_é", "whsec_%%%", "é"])
@pytest.mark.parametrize("adapter", ["resend", "sendgrid", "mailgun", "hubspot"])
async def test_a_secret_that_is_no_key_is_told_and_no_fault_of_ours(
    client, monkeypatch, adapter, secret
):
    monkeypatch.setitem(SECRETS, adapter, secret)
    content, headers = signed(adapter)
    answer = await client.post("/v1/hook", headers={**headers, **basic(adapter)}, content=content)
    assert answer.status_code == 401


def signed(adapter):
    """Return a request whose headers are there and whose signature does not fit."""
    at = str(SECONDS)
    if adapter == "mailgun":
        return mailgun(json.dumps({"event-data": {}}).encode(), SECONDS)
    names = {
        "resend": ("svix-id", "svix-timestamp", "svix-signature"),
        "sendgrid": (
            "",
            "x-twilio-email-event-webhook-timestamp",
            "x-twilio-email-event-webhook-signature",
        ),
        "hubspot": ("", "x-hubspot-request-timestamp", "x-hubspot-signature-v3"),
    }[adapter]
    moment = f"{at}000" if adapter == "hubspot" else at
    return b"[]", {
        name: value for name, value in zip(names, ("m", moment, "v1,AAAA"), strict=True) if name
    }


def basic(name):
    return {"authorization": "Basic " + base64.b64encode(f"{name}:".encode()).decode()}


async def test_documents_that_do_not_fit_count_against_the_rate(publisher):
    mapping = {"each": "items", "calls": [{"call": {"type": "track", "event": "x", "userId": "u"}}]}

    class Slow:
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
        IngestService(Slow(), publisher, FixedClock(NOW), 1, NormalisationRules()),
        TrackerScripts(),
        HealthChecks({}).app(),
    )
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app), base_url="http://door"
    ) as client:
        codes = [
            (await client.post("/v1/hook/k", json={"itemz": []})).status_code for _ in range(4)
        ]
    assert codes == [200, 200, 429, 429]
    assert len(publisher.kept) == 2
