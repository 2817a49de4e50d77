"""What a page may show whom: anybody something, what is personal only to somebody who has proven who they are."""

import hmac
from hashlib import sha256

import httpx2
import msgspec
import pytest
import yaml
from starlette.applications import Starlette

from libs.common.db.connection import SessionPool, connect
from libs.common.link_tokens import LinkRecipient, sign_link_token
from services.ingest.domain.source import Source
from services.ingest.repository import sources
from services.orchestrator.api.onsite import onsite_route
from services.orchestrator.handlers.onsite import OnsiteService
from tests.integration.plays.contacts import make_contacts
from tests.integration.plays.play_texts import NOW
from tests.support.orchestrator import LINKS
from tests.support.scoring import Scoring
from tests.support.touchpoints import DAY, HOUR, touchpoint

PAGE = "https://shop.test"
CONTENTS = [
    {
        "content": "hello",
        "type": "article",
        "title": "Hello",
        "url": "/hello",
        "channels": ["onsite"],
        "priority": 1,
    },
    {
        "content": "guide",
        "type": "guide",
        "title": "A guide",
        "url": "/g",
        "levels": ["problem_aware"],
        "priority": 5,
    },
    {
        "content": "renewal",
        "type": "offer",
        "title": "Your renewal",
        "url": "/r",
        "personal": True,
        "priority": 9,
    },
]


@pytest.fixture
async def ask(orchestrator):
    for one in CONTENTS:
        await orchestrator.definitions.define(
            "default", "content", yaml.safe_dump(one), "test", "content.yaml"
        )
    connection = await connect(orchestrator.database, application="test")
    for name, more in {
        "site": {"allowed_origins": (PAGE,)},
        "shop": {"user_hash_secret": "hash-secret"},
        "backend": {"trust": "server"},
    }.items():
        await sources.upsert_source(
            connection, msgspec.structs.replace(Source("default", name), **more)
        )
        await sources.insert_key(connection, ("default", name), f"key-of-{name}")
    await connection.close()
    onsite = OnsiteService(
        SessionPool(orchestrator.sessions[:2]),
        orchestrator.playbook,
        LINKS.keys,
        orchestrator.clock,
    )
    app = Starlette(routes=[onsite_route(onsite)])
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app), base_url="http://door"
    ) as client:

        async def asked(key="key-of-site", status=200, origin=PAGE, **params):
            answer = await client.get(
                "/v1/me/next", params={"writeKey": key, "type": ["article", "guide", "offer"], **params},
                headers={"origin": origin},
            )  # fmt: skip
            assert answer.status_code == status, answer.text
            assert answer.headers["access-control-allow-origin"] == origin
            assert answer.headers["cache-control"] == "no-store"
            return answer.json()

        asked.client = client
        yield asked


async def test_somebody_of_whom_nothing_is_known_is_shown_what_fits_anybody(ask):
    for who in (
        {},
        {"anonymousId": "new"},
        {"userId": "ada"},
        {"userId": "ada", "userHash": "x"},
        {"pgt": "x"},
    ):
        found = await ask(**who)
        assert (found["content"], found["url"]) == ("hello", "/hello"), who
        assert found.keys() == {"content", "type", "title", "url"}, "no reasons, no contact"


async def test_a_device_is_shown_what_fits_its_stage_and_nothing_personal(ask, orchestrator):
    ids = await make_contacts(orchestrator, ["ada"])
    scoring = Scoring(orchestrator.database)
    await scoring.ingest([touchpoint(HOUR, "Home", number="p", anonymous_id="phone", type="page")])
    assert (await ask(anonymousId="phone"))["content"] == "guide"
    assert (await ask(anonymousId="phone"))["content"] == "guide", "same input, same answer"
    assert (await ask(anonymousId="phone", show="true"))["content"] == "guide"
    assert (await ask(anonymousId="phone"))["content"] == "hello", "it was shown"
    await scoring.ingest(
        [touchpoint(HOUR, "x", number="j", user_id="ada", anonymous_id="phone", type="identify")]
    )
    found = await ask(anonymousId="phone", userId="ada")
    assert "contact_id" not in found
    assert found["content"] != "renewal"
    assert ids
    await scoring.close()


async def test_what_is_personal_is_for_who_has_proven_it(ask, orchestrator):
    ids = await make_contacts(orchestrator, ["ada", "bob"])
    proof = hmac.new(b"hash-secret", b"ada", sha256).hexdigest()
    found = await ask("key-of-shop", userId="ada", userHash=proof)
    assert (found["content"], found["proven"], found["contact_id"]) == ("renewal", True, ids["ada"])
    assert any("renewal: fits" in reason for reason in found["reasons"])
    assert (await ask("key-of-backend", userId="ada"))["contact_id"] == ids["ada"]
    token = sign_link_token(LINKS.keys, LinkRecipient("default", "ada", verified=True), NOW + DAY)
    assert (await ask(pgt=token))["contact_id"] == ids["ada"]
    unsure = sign_link_token(LINKS.keys, LinkRecipient("default", "ada"), NOW + DAY)
    assert "contact_id" not in await ask(pgt=unsure), (
        "it went to an address that nobody vouches for"
    )
    stolen = [
        ("key-of-shop", {"userId": "bob", "userHash": proof}),
        ("key-of-shop", {"userId": "ada"}),
        ("key-of-site", {"userId": "ada", "userHash": proof}),
        ("key-of-site", {"pgt": token[:-1]}),
        ("key-of-site", {"pgt": sign_link_token(LINKS.keys, LinkRecipient("default", "ada"), NOW)}),
        (
            "key-of-site",
            {"pgt": sign_link_token(LINKS.keys, LinkRecipient("other", "ada"), NOW + DAY)},
        ),
        (
            "key-of-site",
            {"pgt": sign_link_token(["another"], LinkRecipient("default", "ada"), NOW + DAY)},
        ),
    ]
    for key, who in stolen:
        found = await ask(key, **who)
        assert (found["content"], "contact_id" in found) == ("hello", False), who


async def test_only_pages_of_the_source_may_ask_and_only_with_its_key(ask):
    assert (await ask("wrong", 401))["code"] == "unknown_write_key"
    assert (await ask("", 401))["code"] == "unknown_write_key"
    assert (await ask(status=403, origin="https://evil.test"))["code"] == "origin_not_allowed"
    preflight = await ask.client.options(
        "/v1/me/next", headers={"origin": PAGE, "access-control-request-headers": "authorization"}
    )
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-headers"] == "authorization"
    assert (await ask.client.get("/v1/me/next", auth=("key-of-site", ""))).status_code == 200


@pytest.mark.parametrize(
    "params",
    [
        {"anonymousId": "a\x00b"},
        {"anonymousId": "x" * 5_000},
        {"type": ["x"] * 500},
        {"fallback": "no/such"},
    ],
)
async def test_rubbish_is_answered(ask, params):
    await ask(**params)
