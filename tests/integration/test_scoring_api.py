"""Scoring's doors over HTTP, in front of a real database: keys, answers, refusals."""

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
from services.scoring.handlers.refold_queue import RefoldQueue
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
                ContactService(read, scoring.catalogue),
                ContactTimelineService(read, scoring.catalogue),
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
    ) as found:
        yield found


READING = [
    "/v1/contacts/u",
    "/v1/contacts/u/explain",
    "/v1/contacts/u/timeline",
    "/v1/stage-changes",
]
RULING = ["/admin/v1/identities/u", "/admin/v1/refolds", "/admin/v1/cycles"]


@pytest.mark.parametrize("path", [*READING, *RULING])
async def test_each_door_opens_to_its_keys_only(client, scoring, path):
    await scoring.ingest([touchpoint(0, user_id="u")])
    for headers in (
        {},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic rules"},
    ):
        assert (await client.get(path, headers=headers)).status_code == 401
    reading = (await client.get(path, headers={"Authorization": "Bearer reads"})).status_code
    assert reading == (200 if path in READING else 403)
    assert (await client.get(path, headers=ADMIN)).status_code == 200


async def test_a_door_without_a_key_stays_shut(scoring):
    app = AuthenticationMiddleware(
        application(scoring), ("/admin/", "/v1/"), DatabaseKeyStore(scoring.sessions[1], "", "")
    )
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app), base_url="http://scoring"
    ) as client:
        for path in (*READING, *RULING):
            assert (await client.get(path, headers={"Authorization": "Bearer "})).status_code == 401


async def test_a_contact_is_shown_and_explained(client, scoring):
    await scoring.ingest(
        [touchpoint(0, "Order Completed", user_id="u"), touchpoint(HOUR, user_id="u", number=2)]
    )
    shown = (await client.get("/v1/contacts/user_id:u", headers=ADMIN)).json()
    assert shown["cycles"]["engagement"]["sequence"] >= 1
    assert shown["identifiers"] == ["user_id:u"]
    answer = await client.get("/v1/contacts/u/explain", params={"at": START + HOUR}, headers=ADMIN)
    told = answer.json()["cycles"]["engagement"]
    assert told["stage"] == "customer"
    for score in told["scores"].values():
        assert sum(c["worth"] for c in score["contributions"]) == pytest.approx(score["value"])
    assert (await client.get("/v1/contacts/nobody", headers=ADMIN)).status_code == 404
    wrong = await client.get("/v1/contacts/u/explain", params={"cycle": "none"}, headers=ADMIN)
    assert (wrong.status_code, "engagement" in wrong.json()["detail"]) == (404, True)
    nul = await client.post(
        "/admin/v1/identities/merge",
        json={"one": "a\0", "other": "b", "author": "x"},
        headers=ADMIN,
    )
    assert (nul.status_code, nul.headers["content-type"]) == (422, "application/problem+json")
    nowhere = await client.get("/v1/contacts/a/b/explain", headers=ADMIN)
    assert (nowhere.status_code, nowhere.headers["content-type"]) == (
        404,
        "application/problem+json",
    )


async def test_corrections_and_merges_go_through_the_admin_door(client, scoring):
    await scoring.ingest(
        [touchpoint(0, "Order Completed", user_id="u"), touchpoint(0, user_id="v", number=2)]
    )
    by = {"author": "ada", "note": "because"}
    pair = {"one": "u", "other": "user_id:v", **by}
    merged = (await client.post("/admin/v1/identities/merge", json=pair, headers=ADMIN)).json()
    assert len(merged["contacts"]) == 1
    queue = (await client.get("/admin/v1/refolds", headers=ADMIN)).json()
    assert queue["reasons"]["identity_merge"]["contacts"] == 1
    await scoring.run_jobs()
    assert (
        await client.post("/admin/v1/identities/unmerge", json=pair, headers=ADMIN)
    ).status_code == 200
    again = await client.post("/admin/v1/identities/unmerge", json=pair, headers=ADMIN)
    assert (again.status_code, "no link" in again.json()["detail"]) == (409, True)
    said = {"who": "u", "cycle": "engagement", "places": {"sales": "qualified"}, "hold": "7d", **by}
    assert (
        await client.post("/admin/v1/corrections/stage", json=said, headers=ADMIN)
    ).status_code == 200
    wrong = await client.post(
        "/admin/v1/corrections/stage", json={**said, "hold": "soon"}, headers=ADMIN
    )
    assert wrong.status_code == 422
    said = {"who": "v", "kind": "bot", **by}
    assert (
        await client.post("/admin/v1/corrections/touchpoints", json=said, headers=ADMIN)
    ).json() == {"corrected": 1}
    shown = (await client.get("/admin/v1/identities/v", headers=ADMIN)).json()
    assert [c["kind"] for c in shown["corrections"]] == ["link", "unlink", "bot"]
    assert {c["author"] for c in shown["corrections"]} == {"ada"}
    await scoring.run_jobs()
    assert (await scoring.replay_check())["equal"]
