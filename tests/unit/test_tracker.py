"""Tracker script and tracking pixel over HTTP; tests/sdks runs the script in browsers."""

import base64
import gzip
import hashlib
import re

import httpx2
import pytest

from libs.common import link_tokens
from libs.common.clock import FixedClock
from libs.common.messages import Touchpoint, decode_value
from libs.common.observability.health import HealthChecks
from services.ingest.api.pixel import GIF
from services.ingest.api.tracking import TrackingApi
from services.ingest.domain.request_context import NormalisationRules
from services.ingest.handlers.ingestion import IngestService
from services.ingest.tracker.script import (
    TrackerScripts,
    content_security_policy,
    html_snippet,
    latest_file,
)
from tests.support.tracking_fakes import NOW, FakePublisher, FakeSources

# Pages name the hash of the script that they load, so a released file never changes.
RELEASED = {
    "perigee-1.js": "sha384-M5rx+xUSFGZaq/u2KoNLQoXKZ5dMtqXMEVCPIORrajkQ/9ScbiwPr81tUTF+nZAN"
}


@pytest.fixture
def publisher():
    return FakePublisher()


@pytest.fixture
async def client(publisher):
    app = TrackingApi(
        IngestService(FakeSources(), publisher, FixedClock(NOW), 1, NormalisationRules()),
        TrackerScripts(),
        HealthChecks({}).app(),
    )
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app), base_url="http://ingest"
    ) as test_client:
        yield test_client


def integrity(text):
    return "sha384-" + base64.b64encode(hashlib.sha384(text).digest()).decode()


async def test_released_script_is_unchanged(client):
    served = {name: integrity((await client.get(f"/{name}")).content) for name in RELEASED}

    assert served == RELEASED
    assert latest_file().name == list(RELEASED)[-1]


async def test_script_is_small_cached_and_cross_origin(client):
    answer = await client.get("/perigee.js", headers={"origin": "https://shop.test"})

    assert answer.headers["content-encoding"] == "gzip"
    assert int(answer.headers["content-length"]) < 6_000
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert answer.headers["access-control-allow-origin"] == "*", (
        "shared caches serve pages of any origin"
    )
    assert answer.headers["vary"] == "Accept-Encoding"
    assert answer.headers["cache-control"] == "public, max-age=3600"
    assert "31536000" in (await client.get("/perigee-1.js")).headers["cache-control"]

    plain = await client.get("/perigee.js", headers={"accept-encoding": "identity"})

    assert "content-encoding" not in plain.headers
    assert plain.content == answer.content == latest_file().read_bytes()
    assert len(gzip.compress(plain.content, 9)) < 6_000
    assert (await client.get("/perigee-99.js")).status_code == 404


async def test_snippet_refers_to_served_script_and_pixel(client):
    snippet = html_snippet("http://ingest", "good")
    (url,) = re.findall(r'src="([^"]+\.js)"', snippet)

    (integrity_attribute,) = re.findall(r'integrity="([^"]+)"', snippet)

    assert integrity((await client.get(url)).content) == integrity_attribute

    (pixel_url,) = re.findall(r'<img src="([^"]+)"', snippet)

    assert (await client.get(pixel_url)).content == GIF
    assert (
        content_security_policy("http://ingest")
        == "script-src http://ingest; connect-src http://ingest; img-src http://ingest"
    )


async def test_pixel_request_is_a_call(client, publisher):
    query = (
        "writeKey=good&event=Email%20Opened&userId=ada-%C3%A9&campaign_id=7"
        "&url=https://x.test/a?utm_source=n"
    )

    answer = await client.get(
        f"/v1/pixel.gif?{query}", headers={"user-agent": "Mail 1", "referer": "https://y.test/"}
    )

    assert (answer.status_code, answer.content, answer.headers["cache-control"]) == (
        200,
        GIF,
        "no-store",
    )

    touchpoint = decode_value(Touchpoint, publisher.kept[0].value)

    assert (touchpoint.type, touchpoint.name, touchpoint.user_id, touchpoint.anonymous_id) == (
        "track",
        "Email Opened",
        "ada-é",
        None,
    )
    assert touchpoint.properties == {"campaign_id": "7"}
    assert touchpoint.context["page"]["url"] == "https://x.test/a?utm_source=n"


async def test_pixel_requests_without_id_are_separate_contacts(client, publisher):
    for _ in range(2):
        await client.get("/v1/pixel.gif?writeKey=good", headers={"referer": "https://y.test/"})

    touchpoints = [decode_value(Touchpoint, message.value) for message in publisher.kept]

    assert [touchpoint.type for touchpoint in touchpoints] == ["page", "page"]
    assert len({touchpoint.anonymous_id for touchpoint in touchpoints}) == 2
    assert touchpoints[0].context["page"]["url"] == "https://y.test/"


@pytest.mark.parametrize("header", ["dnt", "sec-gpc"])
async def test_pixel_respects_do_not_track(client, publisher, header):
    answer = await client.get("/v1/pixel.gif?writeKey=good", headers={header: "1"})

    assert (answer.status_code, publisher.kept) == (200, [])


async def test_invalid_pixel_request_is_refused(client, publisher):
    assert (await client.get("/v1/pixel.gif?writeKey=bad")).status_code == 401
    assert (await client.get("/v1/pixel.gif")).status_code == 401
    assert (
        await client.get("/v1/pixel.gif?writeKey=good&" + "&".join(f"a{n}=1" for n in range(60)))
    ).status_code == 400
    assert (await client.post("/v1/pixel.gif?writeKey=good")).status_code == 405
    assert publisher.kept == []


def test_link_token_is_signed_and_expires():
    ada = link_tokens.LinkRecipient("w", user_id="ada")

    token = link_tokens.sign_link_token(["new"], ada, NOW + 1)

    assert link_tokens.verify_link_token(["new"], token, NOW) == ada
    assert link_tokens.verify_link_token(["newer", "new"], token, NOW) == ada, (
        "during key rotation, older keys stay valid"
    )
    assert link_tokens.sign_link_token(["newer", "new"], ada, NOW + 1) != token
    assert link_tokens.verify_link_token(["new"], token, NOW + 1) is None
    assert link_tokens.verify_link_token(["other"], token, NOW) is None
    assert link_tokens.verify_link_token([], token, NOW) is None
    assert link_tokens.verify_link_token(["new"], "x" * 10_000, NOW) is None


def test_altered_link_token_is_invalid():
    token = link_tokens.sign_link_token(
        ["key"], link_tokens.LinkRecipient("w", email="ada@x.test"), NOW
    )

    altered = [
        token[:position] + ("A" if character != "A" else "B") + token[position + 1 :]
        for position, character in enumerate(token)
    ]

    # The last base64 character has unused bits.
    assert all(link_tokens.verify_link_token(["key"], text, 0) is None for text in altered[:-1])


async def test_link_token_of_another_workspace_is_ignored(publisher):
    rules = NormalisationRules(link_keys=("key",))
    app = TrackingApi(
        IngestService(FakeSources(), publisher, FixedClock(NOW), 1, rules),
        TrackerScripts(),
        HealthChecks({}).app(),
    )

    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app), base_url="http://ingest", auth=("good", "")
    ) as client:
        for workspace in ("default", "other"):
            token = link_tokens.sign_link_token(
                ["key"], link_tokens.LinkRecipient(workspace, user_id="ada"), NOW + 1
            )
            await client.post(
                "/v1/identify", json={"anonymousId": "a", "context": {"linkToken": token}}
            )

    assert [decode_value(Touchpoint, message.value).user_id for message in publisher.kept] == [
        "ada",
        None,
    ]
