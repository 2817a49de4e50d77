"""CORS, source settings, tracking-library paths and repeated messages of browser requests."""

import pytest

from libs.common.errors import ConfigurationError, Unavailable
from services.ingest.api.routes import match_route
from services.ingest.domain.source import parse_origin
from tests.support.tracking_fakes import TRACK

ORIGIN = {"origin": "https://shop.example"}


@pytest.mark.parametrize(
    "path", ["/v1/t", "/v1/batch", "/v1/projects/good/settings", "/sourceConfig/", "/api/s/track"]
)
async def test_preflight_allows_requested_method_and_headers(client, path):
    client.auth = None
    preflight = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,x-retry-count",
    }

    answer = await client.options(path, headers={**ORIGIN, **preflight})

    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == ORIGIN["origin"]
    assert answer.headers["access-control-allow-headers"] == "authorization,x-retry-count"
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert int(answer.headers["access-control-max-age"]) >= 600


async def test_preflight_ignores_malformed_headers(client):
    headers = {**ORIGIN, "access-control-request-headers": "a\x01b; drop"}

    answer = await client.options("/v1/t", headers=headers)

    assert answer.headers["access-control-allow-headers"] == "authorization, content-type"


@pytest.mark.parametrize(
    ("method_and_path", "status"),
    [
        (("POST", "/v1/t"), 200),
        (("GET", "/v1/t"), 405),
        (("POST", "/v1/batch"), 400),
        (("GET", "/sourceConfig"), 401),
    ],
)
async def test_every_response_has_cors_headers(client, method_and_path, status):
    if status == 401:
        client.auth = None

    answer = await client.request(*method_and_path, headers=ORIGIN, json=TRACK)

    assert answer.status_code == status
    assert answer.headers["access-control-allow-origin"] == ORIGIN["origin"]
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert "Retry-After" in answer.headers["access-control-expose-headers"]
    assert answer.headers["vary"] == "Origin"


async def test_project_settings_have_key_and_host(client):
    client.auth = None

    answer = await client.get(
        "/v1/projects/good/settings", headers={"x-forwarded-proto": "https", "host": "t.example"}
    )

    assert answer.json()["integrations"] == {
        "Segment.io": {"apiKey": "good", "apiHost": "t.example/v1", "protocol": "https"}
    }
    assert (await client.get("/v1/projects/bad/settings")).status_code == 401


async def test_source_config_has_fields_of_rudderstack_sdk(client):
    client.auth = None

    source = (await client.get("/sourceConfig/?p=npm&writeKey=good")).json()["source"]

    assert source["id"]
    assert source["enabled"]
    assert source["destinations"] == []
    assert source["config"]["statsCollection"]["errors"] == {"enabled": False}

    probe = await client.head("/sourceConfig/?view=ad&writeKey=good")

    assert (probe.status_code, probe.content) == (200, b"")


async def test_library_metrics_are_discarded(client, publisher):
    answer = await client.post("/v1/m", content=b"whatever")

    assert (answer.status_code, answer.json(), publisher.kept) == (200, {"success": True}, [])


@pytest.mark.parametrize(
    "path", ["/api/s/track", "/api/s/s2s/track", "/beacon/v1/batch?writeKey=good"]
)
async def test_paths_of_other_libraries_are_accepted(client, publisher, path):
    client.auth = None
    body = {"batch": [{"type": "track", **TRACK}]} if "batch" in path else TRACK

    assert (
        await client.post(path, json=body, headers={"x-write-key": "good:secret"})
    ).status_code == 200
    assert len(publisher.kept) == 1


async def test_only_accepted_messages_are_deduplicated(client, publisher):
    publisher.fault = Unavailable("no broker")

    assert (await client.post("/v1/track", json={**TRACK, "messageId": "m"})).status_code == 503

    publisher.fault = None

    for _ in range(3):
        assert (await client.post("/v1/track", json={**TRACK, "messageId": "m"})).status_code == 200

    batch = {
        "batch": [
            {"type": "track", **TRACK, "messageId": message_id} for message_id in ("m", "n", "n")
        ]
    }

    assert (await client.post("/v1/batch", json=batch)).status_code == 200
    assert len(publisher.kept) == 2


async def test_dead_letter_omits_write_key(client, publisher):
    batch = {"batch": [{"type": "track", "writeKey": "good", "event": "x"}], "writeKey": "good"}

    assert (await client.post("/v1/batch", json=batch)).status_code == 200
    assert b"good" not in publisher.kept[0].value


@pytest.mark.parametrize(
    "path",
    ["/", "/v1", "/v1/dance", "/v2/track", "/v1/projects/settings", "/healthz", "/api/s/dance"],
)
def test_unknown_path_matches_no_route(path):
    assert match_route(path) is None


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://Shop.example/", "https://shop.example"),
        ("https://shop.example:443", "https://shop.example"),
        ("http://shop.example:80", "http://shop.example"),
        ("http://shop.example:8080", "http://shop.example:8080"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("http://[::1]:3000", "http://[::1]:3000"),
    ],
)
def test_origin_is_normalised_as_in_browsers(text, origin):
    assert parse_origin(text) == origin


@pytest.mark.parametrize(
    "text",
    ["shop.example", "ftp://a.b", "https://a.b/c", "https://", "https://a.b:x", "https://u@a.b"],
)
def test_invalid_origin_is_refused(text):
    with pytest.raises(ConfigurationError):
        parse_origin(text)
