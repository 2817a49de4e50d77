"""Sources on a real PostgreSQL: their keys, limits and admin API."""

import httpx2
import pytest

from libs.common.clock import FixedClock
from libs.common.db.connection import Session
from libs.common.errors import ConfigurationError, Conflict, NotFound
from libs.common.http.app_factory import build_app
from services.ingest.api import sources
from services.ingest.api.tracking import TrackingApi
from services.ingest.domain.request_context import NormalisationRules
from services.ingest.handlers.ingestion import IngestService
from services.ingest.handlers.sources import SourceChanges, SourceService
from services.ingest.repository.sources import SourceCache
from services.ingest.tracker.script import TrackerScripts
from tests.support.fixed_keys import ADMIN, with_authentication
from tests.support.tracking_fakes import NOW, FakePublisher
from tests.support.waiting import wait_until

TRACK = {"event": "x", "userId": "u"}


@pytest.fixture
async def session(database):
    opened = Session(database, "test")
    yield opened
    await opened.close()


@pytest.fixture
def service(session):
    return SourceService(session)


class IngestApi:
    """Tracking API and admin API of ingest on one database, with a fixed clock."""

    def __init__(self, session, service):
        self.sources, self.publisher, self.clock = (
            SourceCache(session),
            FakePublisher(),
            FixedClock(NOW),
        )
        rest = with_authentication(
            build_app("Perigee ingest", admin_routers=[sources.router(service)])
        )
        app = TrackingApi(
            IngestService(self.sources, self.publisher, self.clock, 1, NormalisationRules()),
            TrackerScripts(),
            rest,
        )
        self.client = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app), base_url="http://ingest"
        )

    async def track(self, key, **headers):
        await self.sources.refresh()
        return await self.client.post("/v1/track", json=TRACK, auth=(key, ""), headers=headers)

    async def admin(self, method, path, key=ADMIN, **options):
        headers = {"authorization": f"Bearer {key}"}
        return await self.client.request(
            method, f"/admin/v1/sources{path}", headers=headers, **options
        )


@pytest.fixture
async def api(session, service):
    ingest_api = IngestApi(session, service)
    yield ingest_api
    await ingest_api.client.aclose()


async def test_write_key_is_stored_as_hash(service, api, connection):
    created = await service.create("default", "shop", SourceChanges())

    assert len(created.write_key) >= 32
    assert (await api.track(created.write_key)).status_code == 200

    (listed,) = await service.list_sources("default")
    assert listed.write_key is None
    assert listed.keys[0].hint == created.write_key[:6]

    rows = await connection.fetch("SELECT row_to_json(k)::text FROM ingest.write_keys k")

    assert created.write_key not in rows[0][0]
    with pytest.raises(Conflict, match="already"):
        await service.create("default", "shop", SourceChanges())
    with pytest.raises(ConfigurationError, match="1 to 60"):
        await service.create("default", "", SourceChanges())


async def test_last_use_of_key_is_recorded(service, api):
    key = (await service.create("default", "shop", SourceChanges())).write_key
    await api.track(key)

    assert (await service.list_sources("default"))[0].keys[0].last_used_at is None

    await api.sources.refresh()

    assert (await service.list_sources("default"))[0].keys[0].last_used_at is not None


async def test_rotated_key_overlaps_and_revoked_key_ends(service, api):
    first_key = (await service.create("default", "shop", SourceChanges())).write_key
    second_key = (await service.rotate("default", "shop", 1.0)).write_key
    assert [(await api.track(key)).status_code for key in (first_key, second_key)] == [200, 200]

    async def overlap_is_over():
        return (await api.track(first_key)).status_code == 401

    await wait_until(overlap_is_over, what="the end of the old key")
    assert [(await api.track(key)).status_code for key in (first_key, second_key)] == [401, 200]
    third_key = (await service.rotate("default", "shop", 3600)).write_key
    remaining = await service.revoke("default", "shop", second_key[:6])
    assert [key.hint for key in remaining.keys] == [third_key[:6]]
    assert [(await api.track(key)).status_code for key in (second_key, third_key)] == [401, 200]
    with pytest.raises(NotFound, match="no valid key that begins"):
        await service.revoke("default", "shop", second_key[:6])
    with pytest.raises(NotFound, match="there are shop"):
        await service.rotate("default", "nobody", 0)


async def test_other_origin_is_refused(service, api):
    key = (
        await service.create("default", "shop", SourceChanges(origins=["https://Shop.example/"]))
    ).write_key

    assert (await api.track(key)).status_code == 200, "a request without an origin is refused"
    assert (await api.track(key, origin="https://shop.example")).status_code == 200

    refused = await api.track(key, origin="https://evil.example")
    assert (refused.status_code, refused.json()["code"]) == (403, "origin_not_allowed")
    assert refused.headers["access-control-allow-origin"] == "https://evil.example", (
        "the page cannot read the response"
    )

    await service.update("default", "shop", SourceChanges(origins=[]))

    assert (await api.track(key, origin="https://evil.example")).status_code == 200
    with pytest.raises(ConfigurationError, match="is no origin"):
        await service.update("default", "shop", SourceChanges(origins=["shop.example/page"]))


async def test_source_over_rate_limit_gets_429(service, api):
    key = (await service.create("default", "shop", SourceChanges(per_second=2))).write_key
    codes = [(await api.track(key)).status_code for _ in range(5)]

    assert codes == [200] * 4 + [429], "the burst is not two seconds of the rate"
    assert (await api.track(key)).headers["retry-after"] == "1"

    api.clock.instant += 1_000_000

    assert [(await api.track(key)).status_code for _ in range(3)] == [200, 200, 429]


async def test_source_defaults_fill_missing_properties(service, api):
    import msgspec

    from libs.common.messages import Touchpoint

    key = (
        await service.create(
            "default", "till", SourceChanges(defaults={"store": "Lyon", "event": 1}, mode="test")
        )
    ).write_key
    await api.track(key)
    (message,) = api.publisher.kept
    touchpoint = msgspec.json.decode(message.value, type=Touchpoint)
    assert touchpoint.properties == {"store": "Lyon", "event": 1}
    assert touchpoint.mode == "test"


async def test_admin_api_creates_changes_and_rotates(api):
    response = await api.admin(
        "POST", "", json={"name": "app", "trust": "server", "user_hash": True}
    )

    assert response.status_code == 201, response.text

    created = response.json()
    assert created["source"]["user_hash"] is True
    assert created["user_hash_secret"]
    assert (await api.track(created["write_key"])).status_code == 200

    changed = await api.admin("PATCH", "/app", json={"mode": "historical"})
    assert (changed.json()["source"]["mode"], changed.json()["user_hash_secret"]) == (
        "historical",
        None,
    )

    new_key = (await api.admin("POST", "/app/keys", json={"overlap": "1h"})).json()["write_key"]
    assert len((await api.admin("GET", "")).json()[0]["keys"]) == 2

    await api.admin("DELETE", "/app/keys", params={"hint": created["write_key"][:6]})

    assert [(await api.track(k)).status_code for k in (created["write_key"], new_key)] == [401, 200]


@pytest.mark.parametrize(
    ("call", "status", "title"),
    [
        (("POST", "", {"name": "app", "trust": "friend"}), 422, "InvalidRequest"),
        (("POST", "", {"name": "app", "colour": "red"}), 422, "InvalidRequest"),
        (("POST", "", {"name": "app", "allowed_origins": ["x"]}), 422, "ConfigurationError"),
        (("PATCH", "/nobody", {}), 404, "NotFound"),
        (("DELETE", "/nobody/keys", None), 404, "NotFound"),
    ],
)
async def test_admin_api_explains_invalid_request(api, call, status, title):
    response = await api.admin(*call[:2], json=call[2])

    assert (response.status_code, response.json()["title"]) == (status, title)
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["detail"]


@pytest.mark.parametrize("key", ["", "wrong", "write"])
async def test_admin_api_refuses_write_key(service, api, key):
    write_key = (await service.create("default", "shop", SourceChanges())).write_key
    response = await api.admin("GET", "", key=write_key if key == "write" else key or "-")

    assert (response.status_code, response.json()["title"]) == (401, "Refused")


async def test_revoked_key_is_never_accepted_again(service, connection):
    from services.ingest.repository import sources

    key = (await service.create("default", "shop", SourceChanges())).write_key
    await service.create("default", "app", SourceChanges())
    assert await sources.insert_key(connection, ("default", "shop"), key) is False
    with pytest.raises(Conflict, match="another source"):
        await sources.insert_key(connection, ("default", "app"), key)
    await service.revoke("default", "shop", "")
    with pytest.raises(Conflict, match="was revoked"):
        await sources.insert_key(connection, ("default", "shop"), key)
