"""Files into the topic: checked, resumable, the same twice adds nothing, rejects beside with line and reason."""

import gzip
import json
import tracemalloc

import msgspec
import pytest

from libs.common.clock import FixedClock
from libs.common.db.connection import Session
from libs.common.errors import ConfigurationError, NotFound, Unavailable
from libs.common.kafka.admin import apply_topics
from libs.common.kafka.publisher import Publisher
from libs.common.kafka.topic_reader import read_all
from libs.common.messages import Touchpoint
from services.ingest.adapters.row_files import read_rows, rejects_path
from services.ingest.domain.call_mapping import CallMapping
from services.ingest.domain.request_context import NormalisationRules
from services.ingest.handlers import imports
from services.ingest.handlers.imports import FileImporter
from services.ingest.handlers.sources import SourceChanges, SourceService
from tests.support.instance import PARTITIONS, clear_topics

NOW = 1_780_000_000_000_000


def said(_):
    pass


class Failing:
    """A Kafka that goes away after some batches."""

    def __init__(self, publisher, batches):
        self.publisher, self.left = publisher, batches

    async def publish(self, messages, seconds):
        self.left -= 1
        if self.left < 0:
            return [Unavailable("no broker")] * len(messages)
        return await self.publisher.publish(messages, seconds)


class Desk:
    def __init__(self, servers, database):
        self.kafka = servers.kafka
        self.session = Session(database, "test")
        self.publisher = Publisher(servers.kafka, linger_ms=2)

    def imports(self, publisher=None):
        return FileImporter(
            self.session, publisher or self.publisher, FixedClock(NOW), NormalisationRules()
        )

    async def stored(self):
        return [
            msgspec.json.decode(r.value, type=Touchpoint)
            for r in await read_all(self.kafka, "touchpoints")
        ]


@pytest.fixture
async def desk(servers, database):
    await clear_topics(servers.kafka)
    await apply_topics(servers.kafka, PARTITIONS)
    found = Desk(servers, database)
    await SourceService(found.session).create("default", "till", SourceChanges())
    yield found
    await found.publisher.close()
    await found.session.close()


def write_csv(path, count):
    lines = [f"u{n};Order Completed;2026-05-01T10:00:00Z;{n}" for n in range(count)]
    path.write_text("\ufeffuserId;event;timestamp;properties.total\n" + "\n".join(lines) + "\n")
    return path


async def test_a_file_is_checked_then_imported_once(desk, tmp_path):
    file = write_csv(tmp_path / "orders.csv", 5)
    file.write_text(
        file.read_text() + ";Order Completed;2026-05-01T10:00:00Z;9\nu9;;2026-05-01;1;2;3\n"
    )
    good, bad, first = await desk.imports().dry_run(file, ("default", "till"), None, said)
    assert (good, bad) == (5, 2)
    assert [(r.line, r.reason) for r in first] == [(7, "no_ids"), (8, "bad_csv")]
    assert await desk.stored() == [], "a check sends nothing"
    for _ in range(2):
        done = await desk.imports().run(file, ("default", "till"), None, said)
        assert (done.accepted, done.rejected, done.finished) == (5, 2, True)
    found = await desk.stored()
    assert sorted(t.user_id for t in found) == [f"u{n}" for n in range(5)]
    assert {t.mode for t in found} == {"historical"}
    rejects = [json.loads(line) for line in rejects_path(file).read_text().splitlines()]
    assert [(r["line"], r["reason"]) for r in rejects] == [(7, "no_ids"), (8, "bad_csv")]


async def test_it_goes_on_where_it_stopped_and_adds_nothing_twice(desk, tmp_path, monkeypatch):
    monkeypatch.setattr(imports, "BATCH_ROWS", 10)
    file = write_csv(tmp_path / "orders.csv", 45)
    with pytest.raises(Unavailable, match="goes on at line 22"):
        await desk.imports(Failing(desk.publisher, 2)).run(file, ("default", "till"), None, said)
    done = await desk.imports().run(file, ("default", "till"), None, said)
    assert (done.accepted, done.rejected, done.finished) == (45, 0, True)
    assert not rejects_path(file).exists()
    ids = [t.message_id for t in await desk.stored()]
    assert len(ids) == len(set(ids)) == 45
    renamed = file.rename(tmp_path / "again.csv")
    assert (await desk.imports().run(renamed, ("default", "till"), None, said)).finished
    assert len(await desk.stored()) == 45


async def test_rows_of_json_with_a_mapping_and_gzip(desk, tmp_path):
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
    done = await desk.imports().run(file, ("default", "till"), template, said, historical=False)
    assert (done.accepted, done.rejected) == (1, 3)
    (touchpoint,) = await desk.stored()
    assert (touchpoint.name, touchpoint.mode, touchpoint.occurred_at) == (
        "Shop",
        "live",
        1_777_622_400_000_000,
    )


@pytest.mark.parametrize("name", ["orders.xlsx", "missing.csv", "broken.csv.gz"])
async def test_a_file_that_cannot_be_read(desk, tmp_path, name):
    file = tmp_path / name
    if name != "missing.csv":
        file.write_bytes(b"no such thing")
    with pytest.raises(ConfigurationError):
        await desk.imports().run(file, ("default", "till"), None, said)


async def test_an_unknown_source(desk, tmp_path):
    with pytest.raises(NotFound, match="perigee source create nobody"):
        await desk.imports().run(
            write_csv(tmp_path / "a.csv", 1), ("default", "nobody"), None, said
        )


def test_a_large_file_is_read_with_flat_memory(tmp_path):
    file = write_csv(tmp_path / "large.csv", 200_000)
    tracemalloc.start()
    assert sum(1 for _ in read_rows(file, said)) == 200_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000


async def test_a_row_that_the_door_would_refuse_or_clean_stops_nothing(desk, tmp_path):
    file = tmp_path / "odd.ndjson"
    odd = [
        '{"event":"cut","anonymousId":"a","properties":{"v":"\\ud83d"}}',
        '{"event":"nul","anonymousId":"a","properties":{"v":"\\u0000"}}',
        '{"event":"nan","anonymousId":"a","properties":{"v":NaN}}',
        '{"event":"big","anonymousId":"a","properties":{"v":"%s"}}' % ("x" * 1_100_000),
        '{"event":"good","anonymousId":"a"}',
    ]
    file.write_text("\n".join(odd) + "\n")
    good, bad, _ = await desk.imports().dry_run(file, ("default", "till"), None, said)
    done = await desk.imports().run(file, ("default", "till"), None, said)
    assert (good, bad) == (done.accepted, done.rejected) == (3, 2)
    assert sorted(t.name for t in await desk.stored()) == ["cut", "good", "nul"]
    assert {t.properties.get("v") for t in await desk.stored()} == {"\ufffd", None}


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("a,a\n1,2\n", "several columns have the same name: a"),
        (f'a,b\n1,"{"x" * 1_000_001}\n2,3"\n4,5\n', "line 2 cannot be read"),
    ],
)
def test_a_csv_that_would_be_misread_is_refused(tmp_path, content, error):
    file = tmp_path / "odd.csv"
    file.write_text(content)
    with pytest.raises(ConfigurationError, match=error):
        list(read_rows(file, said))


def test_a_quoted_header_may_hold_a_newline(tmp_path):
    file = tmp_path / "odd.csv"
    file.write_text('"a\nb",c\n1,2\n')
    assert list(read_rows(file, said)) == [(3, {"a\nb": "1", "c": "2"})]


async def test_a_file_that_is_read_in_another_way_is_imported_again(desk, tmp_path):
    file = tmp_path / "orders.csv"
    file.write_text("who,sum\nu1,3\n")
    wrong = CallMapping({"type": "track", "event": "Order Completed", "userId": {"column": "whom"}})
    done = await desk.imports().run(file, ("default", "till"), wrong, said)
    assert (done.accepted, done.rejected, done.finished_before) == (0, 1, False)
    right = CallMapping({"type": "track", "event": "Order Completed", "userId": {"column": "who"}})
    for before in (False, True):
        done = await desk.imports().run(file, ("default", "till"), right, said)
        assert (done.accepted, done.rejected, done.finished_before) == (1, 0, before)
    assert [t.user_id for t in await desk.stored()] == ["u1"]


def test_what_is_not_utf8_is_rejected_and_not_altered(tmp_path):
    file = tmp_path / "orders.csv"
    file.write_bytes(
        "sep=;\nuserId;event\nzoé;x\n".encode() + "zoé;y\n".encode("cp1252") + b"bob;z\n"
    )
    (first, row), (second, why), (third, last) = read_rows(file, said)
    assert (first, second, third) == (3, 4, 5)
    assert (row, why.reason, last) == (
        {"userId": "zoé", "event": "x"},
        "bad_encoding",
        {"userId": "bob", "event": "z"},
    )
    file = tmp_path / "orders.ndjson"
    file.write_bytes(b'{"a":"\xe9"}\n{"a":"b"}\n')
    assert [getattr(row, "reason", row) for _, row in read_rows(file, said)] == [
        "bad_encoding",
        {"a": "b"},
    ]


def test_a_line_without_an_end_is_not_held(tmp_path):
    file = tmp_path / "bomb.ndjson.gz"
    with gzip.open(file, "wb") as packed:
        packed.write(b'{"a":"')
        for _ in range(60):
            packed.write(b"x" * 1_000_000)
        packed.write(b'"}\n{"a":"b"}\n')
    tracemalloc.start()
    try:
        found = [getattr(row, "reason", row) for _, row in read_rows(file, said)]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == ["too_large", {"a": "b"}]
    assert peak < 20_000_000


async def test_rejects_that_cannot_be_written_are_said_before_anything_is_sent(desk, tmp_path):
    file = write_csv(tmp_path / "orders.csv", 3)
    rejects_path(file).mkdir()
    with pytest.raises(Unavailable, match="cannot be written"):
        await desk.imports().run(file, ("default", "till"), None, said)
    assert await desk.stored() == []


def test_names_of_columns_that_are_not_utf8_are_refused_and_a_tab_may_be_named(tmp_path):
    file = tmp_path / "odd.csv"
    file.write_bytes("userId,properties.prénom\na,b\n".encode("cp1252"))
    with pytest.raises(ConfigurationError, match="UTF-8"):
        list(read_rows(file, said))
    file.write_text("sep=\t\nuserId\tevent\nu\tx\n")
    assert list(read_rows(file, said)) == [(3, {"userId": "u", "event": "x"})]
