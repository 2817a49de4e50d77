"""On-site recommendations: general content for visitors, personal content for proven contacts."""

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
async def recommend(orchestrator):
    for content in CONTENTS:
        await orchestrator.definitions.define(
            "default", "content", yaml.safe_dump(content), "test", "content.yaml"
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
        orchestrator.play_registry,
        LINKS.keys,
        orchestrator.clock,
    )
    app = Starlette(routes=[onsite_route(onsite)])
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app), base_url="http://orchestrator"
    ) as client:

        async def request(key="key-of-site", status=200, origin=PAGE, **params):
            response = await client.get(
                "/v1/me/next",
                params={"writeKey": key, "type": ["article", "guide", "offer"], **params},
                headers={"origin": origin},
            )
            assert response.status_code == status, response.text
            assert response.headers["access-control-allow-origin"] == origin
            assert response.headers["cache-control"] == "no-store"
            return response.json()

        request.client = client
        yield request


async def test_unknown_visitor_gets_general_content(recommend):
    for identity in (
        {},
        {"anonymousId": "new"},
        {"userId": "ada"},
        {"userId": "ada", "userHash": "x"},
        {"pgt": "x"},
    ):
        recommendation = await recommend(**identity)
        assert (recommendation["content"], recommendation["url"]) == ("hello", "/hello"), identity
        assert recommendation.keys() == {"content", "type", "title", "url"}, (
            "the response has reasons or a contact"
        )


async def test_device_gets_content_of_its_stage(recommend, orchestrator):
    ids = await make_contacts(orchestrator, ["ada"])
    scoring = Scoring(orchestrator.database)

    await scoring.ingest([touchpoint(HOUR, "Home", number="p", anonymous_id="phone", type="page")])

    assert (await recommend(anonymousId="phone"))["content"] == "guide"
    assert (await recommend(anonymousId="phone"))["content"] == "guide", (
        "an equal request has another response"
    )
    assert (await recommend(anonymousId="phone", show="true"))["content"] == "guide"
    assert (await recommend(anonymousId="phone"))["content"] == "hello", (
        "shown content is recommended again"
    )

    await scoring.ingest(
        [touchpoint(HOUR, "x", number="j", user_id="ada", anonymous_id="phone", type="identify")]
    )
    recommendation = await recommend(anonymousId="phone", userId="ada")

    assert "contact_id" not in recommendation
    assert recommendation["content"] != "renewal"
    assert ids

    await scoring.close()


async def test_personal_content_needs_proof_of_identity(recommend, orchestrator):
    ids = await make_contacts(orchestrator, ["ada", "bob"])
    proof = hmac.new(b"hash-secret", b"ada", sha256).hexdigest()

    recommendation = await recommend("key-of-shop", userId="ada", userHash=proof)

    assert (recommendation["content"], recommendation["proven"], recommendation["contact_id"]) == (
        "renewal",
        True,
        ids["ada"],
    )
    assert any("renewal: fits" in reason for reason in recommendation["reasons"])
    assert (await recommend("key-of-backend", userId="ada"))["contact_id"] == ids["ada"]

    token = sign_link_token(LINKS.keys, LinkRecipient("default", "ada", verified=True), NOW + DAY)
    assert (await recommend(pgt=token))["contact_id"] == ids["ada"]

    unverified_token = sign_link_token(LINKS.keys, LinkRecipient("default", "ada"), NOW + DAY)

    assert "contact_id" not in await recommend(pgt=unverified_token), (
        "the link of an unverified address proves an identity"
    )

    forged_proofs = [
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
    for key, identity in forged_proofs:
        recommendation = await recommend(key, **identity)
        assert (recommendation["content"], "contact_id" in recommendation) == ("hello", False), (
            identity
        )


async def test_only_source_origins_with_key_are_allowed(recommend):
    assert (await recommend("wrong", 401))["code"] == "unknown_write_key"
    assert (await recommend("", 401))["code"] == "unknown_write_key"
    assert (await recommend(status=403, origin="https://evil.test"))["code"] == "origin_not_allowed"

    preflight = await recommend.client.options(
        "/v1/me/next", headers={"origin": PAGE, "access-control-request-headers": "authorization"}
    )

    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-headers"] == "authorization"
    assert (await recommend.client.get("/v1/me/next", auth=("key-of-site", ""))).status_code == 200


@pytest.mark.parametrize(
    "params",
    [
        {"anonymousId": "a\x00b"},
        {"anonymousId": "x" * 5_000},
        {"type": ["x"] * 500},
        {"fallback": "no/such"},
    ],
)
async def test_malformed_parameters_are_answered(recommend, params):
    await recommend(**params)
