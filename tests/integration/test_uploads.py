"""`POST /admin/v1/imports`: files through the door, imported behind it."""

import asyncio
import gzip

import httpx2
import pytest

from libs.common.clock import FixedClock
from libs.common.db.connection import Session
from libs.common.http.app_factory import build_app
from libs.common.kafka.admin import apply_topics
from libs.common.kafka.publisher import Publisher
from services.ingest.api import imports, sources
from services.ingest.domain.request_context import NormalisationRules
from services.ingest.handlers.imports import FileImporter
from services.ingest.handlers.sources import SourceChanges, SourceService
from services.ingest.handlers.uploads import UploadQueue
from services.ingest.protocol.timeouts import UPLOADS
from tests.integration.test_imports import NOW, write_csv
from tests.support.fixed_keys import ADMIN, with_authentication
from tests.support.instance import PARTITIONS
from tests.support.kafka import read_topic
from tests.support.waiting import wait_until

QUERY = {"source": "till", "name": "orders.csv"}


class Door:
    def __init__(self, servers, database, folder):
        self.servers, self.folder, self.stop = servers, folder, asyncio.Event()
        self.session, self.publisher = Session(database, "test"), Publisher(servers.kafka)
        desk = FileImporter(self.session, self.publisher, FixedClock(NOW), NormalisationRules())
        self.uploads = UploadQueue(desk, self.session, folder, 100_000)
        app = with_authentication(
            build_app(
                "Perigee ingest",
                admin_routers=[
                    sources.router(SourceService(self.session)),
                    imports.router(self.uploads),
                ],
            ),
            UPLOADS,
        )
        headers = {"Authorization": f"Bearer {ADMIN}"}
        self.client = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app), base_url="http://door/admin/v1", headers=headers
        )
        self.working = asyncio.create_task(self.uploads.process_queue(self.stop))

    async def close(self):
        self.stop.set()
        await self.working
        await self.client.aclose()
        await self.publisher.close()
        await self.session.close()

    async def finished(self):
        async def done():
            found = (await self.client.get("/imports")).json()
            return found and all(one["finished_at"] or one["fault"] for one in found) and found

        return await wait_until(done, what="the end of every import")

    async def stored(self):
        return await read_topic(self.servers.kafka, "touchpoints", PARTITIONS)


@pytest.fixture
async def door(perigee_topics, database, tmp_path):
    await apply_topics(perigee_topics.kafka, PARTITIONS)
    found = Door(perigee_topics, database, tmp_path / "imports")
    await SourceService(found.session).create("default", "till", SourceChanges())
    yield found
    await found.close()


def content(tmp_path, count=5, bad=True):
    file = write_csv(tmp_path / "orders.csv", count)
    return file.read_bytes() + (b";Order Completed;2026-05-01T10:00:00Z;9\n" if bad else b"")


async def test_a_file_is_taken_and_imported_once(door, tmp_path):
    body = content(tmp_path)
    for _ in range(2):
        answer = await door.client.post("/imports", params=QUERY, content=body)
        assert answer.status_code == 202
    name = answer.json()["content"]
    (one,) = await door.finished()
    assert (one["content"], one["accepted"], one["rejected"]) == (name, 5, 1)

    def rejects_alone():
        return door.uploads._waiting.empty() and len(list(door.folder.iterdir())) == 1

    await wait_until(rejects_alone, what="the end of the second import, and of its file")
    assert (await door.finished())[0]["fault"] is None, "the second time is no fault"
    assert len(await door.stored()) == 5
    rejects = await door.client.get(f"/imports/{name}/rejects")
    assert '"reason": "no_ids"' in rejects.text
    (left,) = door.folder.iterdir()
    assert left.name.startswith(name)
    assert left.name.endswith(".csv.rejects.ndjson")
    assert door.folder.stat().st_mode & 0o77 == 0, "nobody else reads people's data"


async def test_a_dry_run_sends_nothing(door, tmp_path):
    answer = await door.client.post(
        "/imports", params={**QUERY, "dry_run": "true"}, content=content(tmp_path)
    )
    assert (answer.status_code, answer.json()["good"], answer.json()["bad"]) == (200, 5, 1)
    assert answer.json()["first"][0]["reason"] == "no_ids"
    assert await door.stored() == []
    assert list(door.folder.iterdir()) == []


async def test_gzip_and_a_mapping(door, tmp_path):
    body = gzip.compress(b'{"who":"a"}\n{"who":"b"}\n')
    query = {
        "source": "till",
        "name": "x.ndjson.gz",
        "mapping": "{type: page, userId: {column: who}}",
    }
    assert (await door.client.post("/imports", params=query, content=body)).status_code == 202
    (one,) = await door.finished()
    assert one["accepted"] == 2


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"source": "nobody"}, 404),
        ({"name": "orders.xlsx"}, 422),
        ({"name": "../../etc/orders.csv"}, 422),
        ({"mapping": "{"}, 422),
        ({"mapping": "[1]"}, 422),
    ],
)
async def test_what_cannot_be_imported_is_refused_and_not_kept(door, tmp_path, changed, status):
    answer = await door.client.post(
        "/imports", params={**QUERY, **changed}, content=content(tmp_path)
    )
    assert answer.status_code == status, answer.text
    assert not door.folder.exists() or list(door.folder.iterdir()) == []


async def test_a_file_that_is_too_large_or_broken(door, tmp_path):
    answer = await door.client.post("/imports", params=QUERY, content=b"x" * 100_001)
    assert (answer.status_code, "PERIGEE_IMPORT_BYTES" in answer.text) == (422, True)
    answer = await door.client.post(
        "/imports", params={**QUERY, "name": "x.csv.gz"}, content=b"no gzip"
    )
    assert answer.status_code == 202
    (one,) = await door.finished()
    assert "cannot be read" in one["fault"]


async def test_rejects_of_nothing(door):
    assert (await door.client.get(f"/imports/{'0' * 64}/rejects")).status_code == 404
    assert (await door.client.get("/imports/../../rejects")).status_code in (404, 422)


async def test_what_a_process_leaves_behind_is_imported_by_the_next(
    door, tmp_path, servers, database
):
    door.stop.set()
    await door.working
    answer = await door.client.post("/imports", params=QUERY, content=content(tmp_path, 30))
    assert answer.status_code == 202
    assert await door.stored() == []
    again = Door(servers, database, door.folder)
    (one,) = await again.finished()
    assert (one["accepted"], one["rejected"]) == (30, 1)
    await again.close()
    assert len(await door.stored()) == 30


async def test_the_same_file_into_two_sources(door, tmp_path):
    await SourceService(door.session).create("default", "other", SourceChanges())
    for source in ("till", "other"):
        answer = await door.client.post(
            "/imports", params={**QUERY, "source": source}, content=content(tmp_path, bad=False)
        )
        assert answer.status_code == 202

    async def both():
        found = await door.finished()
        return len(found) == 2 and found

    found = await wait_until(both, what="both imports")
    assert [(one["accepted"], one["fault"]) for one in found] == [(5, None)] * 2


@pytest.mark.parametrize(
    ("name", "body", "mapping"),
    [
        ("a.ndjson", b'{"event":"\\ud800","userId":""}\n{"event":"x","userId":"u"}\n', ""),
        ("a.csv", b'"' + b"x" * 1_200_000, ""),
        (
            "a.csv",
            b"userId,event\nu,x\n",
            "{type: track, event: x, timestamp: {column: event, as: time, format: 2026}}",
        ),
        ("a.csv", b"userId,event\nu,x\n", "{type: track, event: x, properties: {2026-05-01: 1}}"),
    ],
)
async def test_no_file_ends_the_work(door, tmp_path, name, body, mapping):
    door.uploads._max_bytes = 10_000_000
    answer = await door.client.post(
        "/imports", params={"source": "till", "name": name, "mapping": mapping}, content=body
    )
    assert answer.status_code in (202, 422), answer.text
    assert (
        await door.client.post("/imports", params=QUERY, content=content(tmp_path))
    ).status_code == 202

    async def stored():
        return len(await door.stored()) >= 5

    await wait_until(stored, what="the import behind it")
    assert not door.working.done()
    assert len(await door.stored()) >= 5
