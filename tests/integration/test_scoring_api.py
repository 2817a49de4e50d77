"""Scoring's HTTP API on a real database: keys, responses, errors."""

import httpx2
import pytest

from libs.common.db.api_keys import DatabaseKeyStore
from libs.common.http.app_factory import build_app
from libs.common.http.authentication import AuthenticationMiddleware
from libs.common.observability.health import HealthChecks
from services.scoring.api import contacts, cycles, identities, stage_changes
from services.scoring.handlers.contact_timeline import ContactTimelineService
from services.scoring.handlers.contacts import ContactService
from services.scoring.handlers.published_messages import PublishedMessageService
from services.scoring.handlers.refold_queue_status import RefoldQueue
from tests.support.fixed_keys import with_authentication
from tests.support.instance import PARTITIONS
from tests.support.touchpoints import HOUR, START, touchpoint

ADMIN = {"Authorization": "Bearer rules"}


def application(scoring):
    read = scoring.sessions[1]
    return build_app(
        "Perigee scoring",
        open_routes=HealthChecks({}).routes(),
        public_routers=[
            contacts.router(
                ContactService(read, scoring.cycle_registry),
                ContactTimelineService(read, scoring.cycle_registry),
            ),
            stage_changes.router(PublishedMessageService(read, PARTITIONS)),
        ],
        admin_routers=[
            identities.router(scoring.identities, scoring.corrections, RefoldQueue(read)),
            cycles.router(scoring.versions),
        ],
    )


@pytest.fixture
async def client(scoring):
    transport = httpx2.ASGITransport(with_authentication(application(scoring)))
    async with httpx2.AsyncClient(
        transport=transport, base_url="http://scoring", trust_env=False
    ) as http_client:
        yield http_client


READ_PATHS = [
    "/v1/contacts/u",
    "/v1/contacts/u/explain",
    "/v1/contacts/u/timeline",
    "/v1/stage-changes",
]
ADMIN_PATHS = ["/admin/v1/identities/u", "/admin/v1/refolds", "/admin/v1/cycles"]


@pytest.mark.parametrize("path", [*READ_PATHS, *ADMIN_PATHS])
async def test_path_requires_its_key(client, scoring, path):
    await scoring.ingest([touchpoint(0, user_id="u")])

    for headers in (
        {},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic rules"},
    ):
        assert (await client.get(path, headers=headers)).status_code == 401

    status = (await client.get(path, headers={"Authorization": "Bearer reads"})).status_code

    assert status == (200 if path in READ_PATHS else 403)
    assert (await client.get(path, headers=ADMIN)).status_code == 200


async def test_unset_keys_allow_no_access(scoring):
    app = AuthenticationMiddleware(
        application(scoring), ("/admin/", "/v1/"), DatabaseKeyStore(scoring.sessions[1], "", "")
    )

    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app), base_url="http://scoring"
    ) as client:
        for path in (*READ_PATHS, *ADMIN_PATHS):
            assert (await client.get(path, headers={"Authorization": "Bearer "})).status_code == 401


async def test_contact_is_shown_and_explained(client, scoring):
    await scoring.ingest(
        [touchpoint(0, "Order Completed", user_id="u"), touchpoint(HOUR, user_id="u", number=2)]
    )
    contact = (await client.get("/v1/contacts/user_id:u", headers=ADMIN)).json()

    assert contact["cycles"]["engagement"]["sequence"] >= 1
    assert contact["identifiers"] == ["user_id:u"]

    response = await client.get(
        "/v1/contacts/u/explain", params={"at": START + HOUR}, headers=ADMIN
    )
    explanation = response.json()["cycles"]["engagement"]
    assert explanation["stage"] == "customer"
    for score in explanation["scores"].values():
        assert sum(c["worth"] for c in score["contributions"]) == pytest.approx(score["value"])
    assert (await client.get("/v1/contacts/nobody", headers=ADMIN)).status_code == 404

    unknown_cycle = await client.get(
        "/v1/contacts/u/explain", params={"cycle": "none"}, headers=ADMIN
    )
    assert (unknown_cycle.status_code, "engagement" in unknown_cycle.json()["detail"]) == (
        404,
        True,
    )

    nul_reference = await client.post(
        "/admin/v1/identities/merge",
        json={"one": "a\0", "other": "b", "author": "x"},
        headers=ADMIN,
    )
    assert (nul_reference.status_code, nul_reference.headers["content-type"]) == (
        422,
        "application/problem+json",
    )

    unknown_path = await client.get("/v1/contacts/a/b/explain", headers=ADMIN)

    assert (unknown_path.status_code, unknown_path.headers["content-type"]) == (
        404,
        "application/problem+json",
    )


async def test_admin_api_corrects_and_merges(client, scoring):
    await scoring.ingest(
        [touchpoint(0, "Order Completed", user_id="u"), touchpoint(0, user_id="v", number=2)]
    )
    author = {"author": "ada", "note": "because"}
    pair = {"one": "u", "other": "user_id:v", **author}

    merged = (await client.post("/admin/v1/identities/merge", json=pair, headers=ADMIN)).json()

    assert len(merged["contacts"]) == 1

    queue = (await client.get("/admin/v1/refolds", headers=ADMIN)).json()
    assert queue["reasons"]["identity_merge"]["contacts"] == 1

    await scoring.run_jobs()
    assert (
        await client.post("/admin/v1/identities/unmerge", json=pair, headers=ADMIN)
    ).status_code == 200

    repeated = await client.post("/admin/v1/identities/unmerge", json=pair, headers=ADMIN)
    assert (repeated.status_code, "no link" in repeated.json()["detail"]) == (409, True)

    correction = {
        "who": "u",
        "cycle": "engagement",
        "places": {"sales": "qualified"},
        "hold": "7d",
        **author,
    }
    assert (
        await client.post("/admin/v1/corrections/stage", json=correction, headers=ADMIN)
    ).status_code == 200

    invalid = await client.post(
        "/admin/v1/corrections/stage", json={**correction, "hold": "soon"}, headers=ADMIN
    )
    assert invalid.status_code == 422

    correction = {"who": "v", "kind": "bot", **author}
    assert (
        await client.post("/admin/v1/corrections/touchpoints", json=correction, headers=ADMIN)
    ).json() == {"corrected": 1}

    identity = (await client.get("/admin/v1/identities/v", headers=ADMIN)).json()
    assert [c["kind"] for c in identity["corrections"]] == ["link", "unlink", "bot"]
    assert {c["author"] for c in identity["corrections"]} == {"ada"}

    await scoring.run_jobs()

    assert (await scoring.replay_check())["equal"]
