"""File imports: checked, resumable, idempotent, with rejected rows listed by line and reason."""

import gzip
import json

import msgspec
import pytest

from libs.common.api_keys import DEFAULT_WORKSPACE
from libs.common.clock import FixedClock
from libs.common.db.connection import Session
from libs.common.errors import ConfigurationError, NotFound, Unavailable
from libs.common.kafka.admin import apply_topics
from libs.common.kafka.publisher import Publisher
from libs.common.kafka.topic_reader import read_all
from libs.common.messages import Touchpoint
from services.ingest.adapters.row_files import rejects_path
from services.ingest.domain.call_mapping import CallMapping
from services.ingest.domain.request_context import NormalisationRules
from services.ingest.domain.source import SourceKey
from services.ingest.handlers import imports
from services.ingest.handlers.imports import FileImporter
from services.ingest.handlers.sources import SourceChanges, SourceService
from tests.integration.import_files import NOW, ignore, write_csv
from tests.support.instance import PARTITIONS

TILL = SourceKey(DEFAULT_WORKSPACE, "till")


class FailingPublisher:
    """Publisher that becomes unavailable after some batches."""

    def __init__(self, publisher, batches):
        self.publisher, self.batches_left = publisher, batches

    async def publish(self, messages, seconds):
        self.batches_left -= 1
        if self.batches_left < 0:
            return [Unavailable("no broker")] * len(messages)
        return await self.publisher.publish(messages, seconds)


class ImportFixture:
    def __init__(self, servers, database):
        self.kafka = servers.kafka
        self.session = Session(database, "test")
        self.publisher = Publisher(servers.kafka, linger_ms=2)

    def file_importer(self, publisher=None):
        return FileImporter(
            self.session, publisher or self.publisher, FixedClock(NOW), NormalisationRules()
        )

    async def stored(self):
        return [
            msgspec.json.decode(r.value, type=Touchpoint)
            for r in await read_all(self.kafka, "touchpoints")
        ]


@pytest.fixture
async def importer(perigee_topics, database):
    await apply_topics(perigee_topics.kafka, PARTITIONS)
    fixture = ImportFixture(perigee_topics, database)
    await SourceService(fixture.session).create("default", "till", SourceChanges())
    yield fixture
    await fixture.publisher.close()
    await fixture.session.close()


async def test_file_is_checked_then_imported_once(importer, tmp_path):
    file = write_csv(tmp_path / "orders.csv", 5)
    file.write_text(
        file.read_text() + ";Order Completed;2026-05-01T10:00:00Z;9\nu9;;2026-05-01;1;2;3\n"
    )

    valid_rows, invalid_rows, first_rejects = await importer.file_importer().dry_run(
        file, TILL, None, ignore
    )

    assert (valid_rows, invalid_rows) == (5, 2)
    assert [(r.line, r.reason) for r in first_rejects] == [(7, "no_ids"), (8, "bad_csv")]
    assert await importer.stored() == [], "a dry run sent touchpoints"

    for _ in range(2):
        done = await importer.file_importer().run(file, TILL, None, ignore)
        assert (done.accepted, done.rejected, done.finished) == (5, 2, True)
    touchpoints = await importer.stored()
    assert sorted(t.user_id for t in touchpoints) == [f"u{n}" for n in range(5)]
    assert {t.mode for t in touchpoints} == {"historical"}

    rejects = [json.loads(line) for line in rejects_path(file).read_text().splitlines()]

    assert [(r["line"], r["reason"]) for r in rejects] == [(7, "no_ids"), (8, "bad_csv")]


async def test_interrupted_import_resumes_without_duplicates(importer, tmp_path, monkeypatch):
    monkeypatch.setattr(imports, "BATCH_ROWS", 10)
    file = write_csv(tmp_path / "orders.csv", 45)

    with pytest.raises(Unavailable, match="goes on at line 22"):
        await importer.file_importer(FailingPublisher(importer.publisher, 2)).run(
            file, TILL, None, ignore
        )

    done = await importer.file_importer().run(file, TILL, None, ignore)
    assert (done.accepted, done.rejected, done.finished) == (45, 0, True)
    assert not rejects_path(file).exists()

    ids = [t.message_id for t in await importer.stored()]
    assert len(ids) == len(set(ids)) == 45

    renamed = file.rename(tmp_path / "again.csv")

    assert (await importer.file_importer().run(renamed, TILL, None, ignore)).finished
    assert len(await importer.stored()) == 45


async def test_gzipped_json_rows_are_mapped(importer, tmp_path):
    file = tmp_path / "visits.ndjson.gz"
    content = (
        '{"who":"a","when":"2026-05-01T10:00:00+02:00"}\n\nnot json\n[1]\n{"who":"","when":""}\n'
    )
    file.write_bytes(gzip.compress(content.encode()))
    template = CallMapping(
        {
            "type": "page",
            "name": "Shop",
            "userId": {"column": "who"},
            "timestamp": {"column": "when"},
        }
    )

    done = await importer.file_importer().run(file, TILL, template, ignore, historical=False)

    assert (done.accepted, done.rejected) == (1, 3)

    (touchpoint,) = await importer.stored()

    assert (touchpoint.name, touchpoint.mode, touchpoint.occurred_at) == (
        "Shop",
        "live",
        1_777_622_400_000_000,
    )


@pytest.mark.parametrize("name", ["orders.xlsx", "missing.csv", "broken.csv.gz"])
async def test_unreadable_file_is_refused(importer, tmp_path, name):
    file = tmp_path / name
    if name != "missing.csv":
        file.write_bytes(b"no such thing")

    with pytest.raises(ConfigurationError):
        await importer.file_importer().run(file, TILL, None, ignore)


async def test_import_into_unknown_source_is_refused(importer, tmp_path):
    with pytest.raises(NotFound, match="perigee source create nobody"):
        await importer.file_importer().run(
            write_csv(tmp_path / "a.csv", 1), SourceKey("default", "nobody"), None, ignore
        )


async def test_unusual_rows_do_not_stop_import(importer, tmp_path):
    file = tmp_path / "odd.ndjson"
    unusual_rows = [
        '{"event":"cut","anonymousId":"a","properties":{"v":"\\ud83d"}}',
        '{"event":"nul","anonymousId":"a","properties":{"v":"\\u0000"}}',
        '{"event":"nan","anonymousId":"a","properties":{"v":NaN}}',
        '{"event":"big","anonymousId":"a","properties":{"v":"%s"}}' % ("x" * 1_100_000),
        '{"event":"good","anonymousId":"a"}',
    ]
    file.write_text("\n".join(unusual_rows) + "\n")
    valid_rows, invalid_rows, _ = await importer.file_importer().dry_run(file, TILL, None, ignore)

    done = await importer.file_importer().run(file, TILL, None, ignore)

    assert (valid_rows, invalid_rows) == (done.accepted, done.rejected) == (3, 2)
    assert sorted(t.name for t in await importer.stored()) == ["cut", "good", "nul"]
    assert {t.properties.get("v") for t in await importer.stored()} == {"\ufffd", None}


async def test_file_with_other_mapping_is_imported_again(importer, tmp_path):
    file = tmp_path / "orders.csv"
    file.write_text("who,sum\nu1,3\n")
    wrong = CallMapping({"type": "track", "event": "Order Completed", "userId": {"column": "whom"}})

    done = await importer.file_importer().run(file, TILL, wrong, ignore)

    assert (done.accepted, done.rejected, done.finished_before) == (0, 1, False)

    right = CallMapping({"type": "track", "event": "Order Completed", "userId": {"column": "who"}})
    for before in (False, True):
        done = await importer.file_importer().run(file, TILL, right, ignore)
        assert (done.accepted, done.rejected, done.finished_before) == (1, 0, before)

    assert [t.user_id for t in await importer.stored()] == ["u1"]


async def test_unwritable_rejects_file_stops_import_before_sending(importer, tmp_path):
    file = write_csv(tmp_path / "orders.csv", 3)
    rejects_path(file).mkdir()

    with pytest.raises(Unavailable, match="cannot be written"):
        await importer.file_importer().run(file, TILL, None, ignore)
    assert await importer.stored() == []
