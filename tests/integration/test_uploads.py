"""`POST /admin/v1/imports`: files are uploaded, queued and imported."""

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
from tests.integration.import_files import NOW, write_csv
from tests.support.fixed_keys import ADMIN, with_authentication
from tests.support.instance import PARTITIONS
from tests.support.kafka import read_topic
from tests.support.waiting import wait_until

QUERY = {"source": "till", "name": "orders.csv"}


class UploadApi:
    def __init__(self, servers, database, folder):
        self.servers, self.folder, self.stop = servers, folder, asyncio.Event()
        self.session, self.publisher = Session(database, "test"), Publisher(servers.kafka)
        importer = FileImporter(self.session, self.publisher, FixedClock(NOW), NormalisationRules())
        self.uploads = UploadQueue(importer, self.session, folder, 100_000)
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
            transport=httpx2.ASGITransport(app), base_url="http://ingest/admin/v1", headers=headers
        )
        self.worker = asyncio.create_task(self.uploads.process_queue(self.stop))

    async def close(self):
        self.stop.set()
        await self.worker
        await self.client.aclose()
        await self.publisher.close()
        await self.session.close()

    async def finished(self):
        async def done():
            imports = (await self.client.get("/imports")).json()
            return (
                imports and all(row["finished_at"] or row["fault"] for row in imports) and imports
            )

        return await wait_until(done, what="the end of every import")

    async def stored(self):
        return await read_topic(self.servers.kafka, "touchpoints", PARTITIONS)


@pytest.fixture
async def api(perigee_topics, database, tmp_path):
    await apply_topics(perigee_topics.kafka, PARTITIONS)
    upload_api = UploadApi(perigee_topics, database, tmp_path / "imports")
    await SourceService(upload_api.session).create("default", "till", SourceChanges())
    yield upload_api
    await upload_api.close()


def content(tmp_path, count=5, bad=True):
    file = write_csv(tmp_path / "orders.csv", count)
    return file.read_bytes() + (b";Order Completed;2026-05-01T10:00:00Z;9\n" if bad else b"")


async def test_uploaded_file_is_imported_once(api, tmp_path):
    body = content(tmp_path)
    for _ in range(2):
        response = await api.client.post("/imports", params=QUERY, content=body)
        assert response.status_code == 202
    name = response.json()["content"]
    (import_row,) = await api.finished()
    assert (import_row["content"], import_row["accepted"], import_row["rejected"]) == (name, 5, 1)

    def rejects_alone():
        return api.uploads._waiting.empty() and len(list(api.folder.iterdir())) == 1

    await wait_until(rejects_alone, what="the end of the second import, and of its file")
    assert (await api.finished())[0]["fault"] is None, "the second import has a fault"
    assert len(await api.stored()) == 5
    rejects = await api.client.get(f"/imports/{name}/rejects")
    assert '"reason": "no_ids"' in rejects.text
    (rejects_file,) = api.folder.iterdir()
    assert rejects_file.name.startswith(name)
    assert rejects_file.name.endswith(".csv.rejects.ndjson")
    assert api.folder.stat().st_mode & 0o77 == 0, "other users can read the folder"


async def test_dry_run_sends_nothing(api, tmp_path):
    response = await api.client.post(
        "/imports", params={**QUERY, "dry_run": "true"}, content=content(tmp_path)
    )

    assert (response.status_code, response.json()["good"], response.json()["bad"]) == (200, 5, 1)
    assert response.json()["first"][0]["reason"] == "no_ids"
    assert await api.stored() == []
    assert list(api.folder.iterdir()) == []


async def test_gzipped_upload_is_mapped(api, tmp_path):
    body = gzip.compress(b'{"who":"a"}\n{"who":"b"}\n')
    query = {
        "source": "till",
        "name": "x.ndjson.gz",
        "mapping": "{type: page, userId: {column: who}}",
    }

    assert (await api.client.post("/imports", params=query, content=body)).status_code == 202

    (import_row,) = await api.finished()

    assert import_row["accepted"] == 2


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
async def test_invalid_upload_is_refused_and_not_stored(api, tmp_path, changed, status):
    response = await api.client.post(
        "/imports", params={**QUERY, **changed}, content=content(tmp_path)
    )

    assert response.status_code == status, response.text
    assert not api.folder.exists() or list(api.folder.iterdir()) == []


async def test_oversize_or_broken_file_is_refused(api, tmp_path):
    response = await api.client.post("/imports", params=QUERY, content=b"x" * 100_001)

    assert (response.status_code, "PERIGEE_IMPORT_BYTES" in response.text) == (422, True)

    response = await api.client.post(
        "/imports", params={**QUERY, "name": "x.csv.gz"}, content=b"no gzip"
    )
    assert response.status_code == 202

    (import_row,) = await api.finished()

    assert "cannot be read" in import_row["fault"]


async def test_rejects_of_unknown_import_are_404(api):
    assert (await api.client.get(f"/imports/{'0' * 64}/rejects")).status_code == 404
    assert (await api.client.get("/imports/../../rejects")).status_code in (404, 422)


async def test_next_process_imports_queued_files(api, tmp_path, database):
    api.stop.set()
    await api.worker

    response = await api.client.post("/imports", params=QUERY, content=content(tmp_path, 30))

    assert response.status_code == 202
    assert await api.stored() == []

    next_process = UploadApi(api.servers, database, api.folder)
    (import_row,) = await next_process.finished()
    assert (import_row["accepted"], import_row["rejected"]) == (30, 1)

    await next_process.close()

    assert len(await api.stored()) == 30


async def test_same_file_is_imported_into_two_sources(api, tmp_path):
    await SourceService(api.session).create("default", "other", SourceChanges())
    for source in ("till", "other"):
        response = await api.client.post(
            "/imports", params={**QUERY, "source": source}, content=content(tmp_path, bad=False)
        )
        assert response.status_code == 202

    async def both():
        imports = await api.finished()
        return len(imports) == 2 and imports

    imports = await wait_until(both, what="both imports")
    assert [(row["accepted"], row["fault"]) for row in imports] == [(5, None)] * 2


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
async def test_no_file_stops_the_worker(api, tmp_path, name, body, mapping):
    api.uploads._max_bytes = 10_000_000
    response = await api.client.post(
        "/imports", params={"source": "till", "name": name, "mapping": mapping}, content=body
    )
    assert response.status_code in (202, 422), response.text
    assert (
        await api.client.post("/imports", params=QUERY, content=content(tmp_path))
    ).status_code == 202

    async def stored():
        return len(await api.stored()) >= 5

    await wait_until(stored, what="the import behind it")
    assert not api.worker.done()
    assert len(await api.stored()) >= 5
