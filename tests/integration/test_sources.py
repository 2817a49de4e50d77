"""Sources on a real PostgreSQL: their keys, what they may do, and the admin door."""

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
from tests.support.waiting import wait_until
from tests.unit.test_ingestion import NOW, FakePublisher

TRACK = {"event": "x", "userId": "u"}


@pytest.fixture
async def session(database):
    found = Session(database, "test")
    yield found
    await found.close()


@pytest.fixture
def desk(session):
    return SourceService(session)


class Doors:
    """Both doors of ingest on one database, and a clock to be moved."""

    def __init__(self, session, desk):
        self.sources, self.publisher, self.clock = (
            SourceCache(session),
            FakePublisher(),
            FixedClock(NOW),
        )
        rest = with_authentication(
            build_app("Perigee ingest", admin_routers=[sources.router(desk)])
        )
        app = TrackingApi(
            IngestService(self.sources, self.publisher, self.clock, 1, NormalisationRules()),
            TrackerScripts(),
            rest,
        )
        self.client = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app), base_url="http://door"
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
async def doors(session, desk):
    found = Doors(session, desk)
    yield found
    await found.client.aclose()


async def test_a_key_is_told_once_and_stored_as_a_hash(desk, doors, connection):
    told = await desk.create("default", "shop", SourceChanges())
    assert len(told.write_key) >= 32
    assert (await doors.track(told.write_key)).status_code == 200
    (listed,) = await desk.list_sources("default")
    assert listed.write_key is None
    assert listed.keys[0].hint == told.write_key[:6]
    rows = await connection.fetch("SELECT row_to_json(k)::text FROM ingest.write_keys k")
    assert told.write_key not in rows[0][0]
    with pytest.raises(Conflict, match="already"):
        await desk.create("default", "shop", SourceChanges())
    with pytest.raises(ConfigurationError, match="1 to 60"):
        await desk.create("default", "", SourceChanges())


async def test_it_is_noted_when_a_key_was_last_used(desk, doors):
    key = (await desk.create("default", "shop", SourceChanges())).write_key
    await doors.track(key)
    assert (await desk.list_sources("default"))[0].keys[0].last_used_at is None
    await doors.sources.refresh()
    assert (await desk.list_sources("default"))[0].keys[0].last_used_at is not None


async def test_a_rotated_key_overlaps_and_a_revoked_one_ends_at_once(desk, doors):
    first = (await desk.create("default", "shop", SourceChanges())).write_key
    second = (await desk.rotate("default", "shop", 1.0)).write_key
    assert [(await doors.track(key)).status_code for key in (first, second)] == [200, 200]

    async def overlap_is_over():
        return (await doors.track(first)).status_code == 401

    await wait_until(overlap_is_over, what="the end of the old key")
    assert [(await doors.track(key)).status_code for key in (first, second)] == [401, 200]
    third = (await desk.rotate("default", "shop", 3600)).write_key
    left = await desk.revoke("default", "shop", second[:6])
    assert [key.hint for key in left.keys] == [third[:6]]
    assert [(await doors.track(key)).status_code for key in (second, third)] == [401, 200]
    with pytest.raises(NotFound, match="no valid key that begins"):
        await desk.revoke("default", "shop", second[:6])
    with pytest.raises(NotFound, match="there are shop"):
        await desk.rotate("default", "nobody", 0)


async def test_a_page_of_another_origin_is_refused(desk, doors):
    key = (
        await desk.create("default", "shop", SourceChanges(origins=["https://Shop.example/"]))
    ).write_key
    assert (await doors.track(key)).status_code == 200, "no browser"
    assert (await doors.track(key, origin="https://shop.example")).status_code == 200
    refused = await doors.track(key, origin="https://evil.example")
    assert (refused.status_code, refused.json()["code"]) == (403, "origin_not_allowed")
    assert refused.headers["access-control-allow-origin"] == "https://evil.example", (
        "or the page sees a network error"
    )
    await desk.update("default", "shop", SourceChanges(origins=[]))
    assert (await doors.track(key, origin="https://evil.example")).status_code == 200
    with pytest.raises(ConfigurationError, match="is no origin"):
        await desk.update("default", "shop", SourceChanges(origins=["shop.example/page"]))


async def test_a_source_that_sends_too_fast_waits(desk, doors):
    key = (await desk.create("default", "shop", SourceChanges(per_second=2))).write_key
    codes = [(await doors.track(key)).status_code for _ in range(5)]
    assert codes == [200] * 4 + [429], "two seconds' worth at once"
    assert (await doors.track(key)).headers["retry-after"] == "1"
    doors.clock.instant += 1_000_000
    assert [(await doors.track(key)).status_code for _ in range(3)] == [200, 200, 429]


async def test_a_source_gives_what_its_messages_lack(desk, doors):
    import msgspec

    from libs.common.messages import Touchpoint

    key = (
        await desk.create(
            "default", "till", SourceChanges(defaults={"store": "Lyon", "event": 1}, mode="test")
        )
    ).write_key
    await doors.track(key)
    (message,) = doors.publisher.kept
    touchpoint = msgspec.json.decode(message.value, type=Touchpoint)
    assert touchpoint.properties == {"store": "Lyon", "event": 1}
    assert touchpoint.mode == "test"


async def test_the_admin_door(doors):
    made = await doors.admin("POST", "", json={"name": "app", "trust": "server", "user_hash": True})
    assert made.status_code == 201, made.text
    told = made.json()
    assert told["source"]["user_hash"] is True
    assert told["user_hash_secret"]
    assert (await doors.track(told["write_key"])).status_code == 200
    changed = await doors.admin("PATCH", "/app", json={"mode": "historical"})
    assert (changed.json()["source"]["mode"], changed.json()["user_hash_secret"]) == (
        "historical",
        None,
    )
    fresh = (await doors.admin("POST", "/app/keys", json={"overlap": "1h"})).json()["write_key"]
    assert len((await doors.admin("GET", "")).json()[0]["keys"]) == 2
    await doors.admin("DELETE", "/app/keys", params={"hint": told["write_key"][:6]})
    assert [(await doors.track(k)).status_code for k in (told["write_key"], fresh)] == [401, 200]


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
async def test_the_admin_door_says_what_is_wrong(doors, call, status, title):
    answer = await doors.admin(*call[:2], json=call[2])
    assert (answer.status_code, answer.json()["title"]) == (status, title)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]


@pytest.mark.parametrize("key", ["", "wrong", "write"])
async def test_a_write_key_does_not_open_the_admin_door(desk, doors, key):
    write = (await desk.create("default", "shop", SourceChanges())).write_key
    answer = await doors.admin("GET", "", key=write if key == "write" else key or "-")
    assert (answer.status_code, answer.json()["title"]) == (401, "Refused")


async def test_a_key_is_one_sources_and_once_taken_back_stays_so(desk, connection):
    from services.ingest.repository import sources

    key = (await desk.create("default", "shop", SourceChanges())).write_key
    await desk.create("default", "app", SourceChanges())
    assert await sources.insert_key(connection, ("default", "shop"), key) is False
    with pytest.raises(Conflict, match="another source"):
        await sources.insert_key(connection, ("default", "app"), key)
    await desk.revoke("default", "shop", "")
    with pytest.raises(Conflict, match="was revoked"):
        await sources.insert_key(connection, ("default", "shop"), key)
