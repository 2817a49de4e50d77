"""The tracker as it is served, and the picture for where no script runs. What it does in a browser: tests/sdks."""

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
from tests.unit.test_ingestion import NOW, FakePublisher, FakeSources

# Pages name the hash of the version that they load: one that is released is never changed, the next one is another file.
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
        transport=httpx2.ASGITransport(app), base_url="http://door"
    ) as found:
        yield found


def integrity(text):
    return "sha384-" + base64.b64encode(hashlib.sha384(text).digest()).decode()


async def test_a_released_version_stays_as_it_is(client):
    served = {name: integrity((await client.get(f"/{name}")).content) for name in RELEASED}
    assert served == RELEASED
    assert latest_file().name == list(RELEASED)[-1]


async def test_it_is_small_and_served_to_pages_of_any_origin(client):
    answer = await client.get("/perigee.js", headers={"origin": "https://shop.test"})
    assert answer.headers["content-encoding"] == "gzip"
    assert int(answer.headers["content-length"]) < 6_000
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert answer.headers["access-control-allow-origin"] == "*", (
        "caches give it to pages of other origins too"
    )
    assert answer.headers["vary"] == "Accept-Encoding"
    assert answer.headers["cache-control"] == "public, max-age=3600"
    assert "31536000" in (await client.get("/perigee-1.js")).headers["cache-control"]
    plain = await client.get("/perigee.js", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.content == answer.content == latest_file().read_bytes()
    assert len(gzip.compress(plain.content, 9)) < 6_000
    assert (await client.get("/perigee-99.js")).status_code == 404


async def test_the_snippet_names_what_is_served(client):
    lines = html_snippet("http://door", "good")
    (url,) = re.findall(r'src="([^"]+\.js)"', lines)
    (named,) = re.findall(r'integrity="([^"]+)"', lines)
    assert integrity((await client.get(url)).content) == named
    (picture,) = re.findall(r'<img src="([^"]+)"', lines)
    assert (await client.get(picture)).content == GIF
    assert (
        content_security_policy("http://door")
        == "script-src http://door; connect-src http://door; img-src http://door"
    )


async def test_a_picture_is_a_call(client, publisher):
    query = "writeKey=good&event=Letter%20Opened&userId=ada-%C3%A9&campaign_id=7&url=https://x.test/a?utm_source=n"
    answer = await client.get(
        f"/v1/pixel.gif?{query}", headers={"user-agent": "Mail 1", "referer": "https://y.test/"}
    )
    assert (answer.status_code, answer.content, answer.headers["cache-control"]) == (
        200,
        GIF,
        "no-store",
    )
    found = decode_value(Touchpoint, publisher.kept[0].value)
    assert (found.type, found.name, found.user_id, found.anonymous_id) == (
        "track",
        "Letter Opened",
        "ada-é",
        None,
    )
    assert found.properties == {"campaign_id": "7"}
    assert found.context["page"]["url"] == "https://x.test/a?utm_source=n"


async def test_a_picture_without_an_id_is_a_person_of_its_own(client, publisher):
    for _ in range(2):
        await client.get("/v1/pixel.gif?writeKey=good", headers={"referer": "https://y.test/"})
    found = [decode_value(Touchpoint, message.value) for message in publisher.kept]
    assert [t.type for t in found] == ["page", "page"]
    assert len({t.anonymous_id for t in found}) == 2
    assert found[0].context["page"]["url"] == "https://y.test/"


@pytest.mark.parametrize("header", ["dnt", "sec-gpc"])
async def test_a_picture_of_who_wants_not_to_be_followed_tells_nothing(client, publisher, header):
    answer = await client.get("/v1/pixel.gif?writeKey=good", headers={header: "1"})
    assert (answer.status_code, publisher.kept) == (200, [])


async def test_a_picture_that_cannot_be_read(client, publisher):
    assert (await client.get("/v1/pixel.gif?writeKey=bad")).status_code == 401
    assert (await client.get("/v1/pixel.gif")).status_code == 401
    assert (
        await client.get("/v1/pixel.gif?writeKey=good&" + "&".join(f"a{n}=1" for n in range(60)))
    ).status_code == 400
    assert (await client.post("/v1/pixel.gif?writeKey=good")).status_code == 405
    assert publisher.kept == []


def test_tokens_of_links():
    ada = link_tokens.LinkRecipient("w", user_id="ada")
    token = link_tokens.sign_link_token(["new"], ada, NOW + 1)
    assert link_tokens.verify_link_token(["new"], token, NOW) == ada
    assert (
        link_tokens.verify_link_token(["newer", "new"], token, NOW) == ada
    )  # while keys change, the older one is believed
    assert link_tokens.sign_link_token(["newer", "new"], ada, NOW + 1) != token
    assert link_tokens.verify_link_token(["new"], token, NOW + 1) is None
    assert link_tokens.verify_link_token(["other"], token, NOW) is None
    assert link_tokens.verify_link_token([], token, NOW) is None
    assert link_tokens.verify_link_token(["new"], "x" * 10_000, NOW) is None


def test_a_token_with_any_character_changed_names_nobody():
    token = link_tokens.sign_link_token(
        ["key"], link_tokens.LinkRecipient("w", email="ada@x.test"), NOW
    )
    changed = [token[:n] + ("A" if c != "A" else "B") + token[n + 1 :] for n, c in enumerate(token)]
    # The last character of base64 holds bits that nothing reads.
    assert all(link_tokens.verify_link_token(["key"], one, 0) is None for one in changed[:-1])


async def test_a_token_of_another_workspace_names_nobody(publisher):
    rules = NormalisationRules(link_keys=("key",))
    app = TrackingApi(
        IngestService(FakeSources(), publisher, FixedClock(NOW), 1, rules),
        TrackerScripts(),
        HealthChecks({}).app(),
    )
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app), base_url="http://door", auth=("good", "")
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
