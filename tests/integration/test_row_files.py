"""Rows of CSV and JSON files: read in constant memory, ambiguous files refused."""

import gzip
import tracemalloc

import pytest

from libs.common.errors import ConfigurationError
from services.ingest.adapters.row_files import read_rows
from tests.integration.import_files import ignore, write_csv


def test_large_file_is_read_in_constant_memory(tmp_path):
    file = write_csv(tmp_path / "large.csv", 200_000)
    tracemalloc.start()

    assert sum(1 for _ in read_rows(file, ignore)) == 200_000

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 2_000_000


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("a,a\n1,2\n", "several columns have the same name: a"),
        (f'a,b\n1,"{"x" * 1_000_001}\n2,3"\n4,5\n', "line 2 cannot be read"),
    ],
)
def test_ambiguous_csv_is_refused(tmp_path, content, error):
    file = tmp_path / "odd.csv"
    file.write_text(content)

    with pytest.raises(ConfigurationError, match=error):
        list(read_rows(file, ignore))


def test_quoted_csv_header_may_contain_newline(tmp_path):
    file = tmp_path / "odd.csv"
    file.write_text('"a\nb",c\n1,2\n')

    assert list(read_rows(file, ignore)) == [(3, {"a\nb": "1", "c": "2"})]


def test_rows_not_in_utf8_are_rejected(tmp_path):
    file = tmp_path / "orders.csv"
    file.write_bytes(
        "sep=;\nuserId;event\nzoé;x\n".encode() + "zoé;y\n".encode("cp1252") + b"bob;z\n"
    )

    (first_line, row), (second_line, reject), (third_line, last_row) = read_rows(file, ignore)

    assert (first_line, second_line, third_line) == (3, 4, 5)
    assert (row, reject.reason, last_row) == (
        {"userId": "zoé", "event": "x"},
        "bad_encoding",
        {"userId": "bob", "event": "z"},
    )

    file = tmp_path / "orders.ndjson"
    file.write_bytes(b'{"a":"\xe9"}\n{"a":"b"}\n')

    assert [getattr(row, "reason", row) for _, row in read_rows(file, ignore)] == [
        "bad_encoding",
        {"a": "b"},
    ]


def test_endless_line_is_not_buffered(tmp_path):
    file = tmp_path / "bomb.ndjson.gz"
    with gzip.open(file, "wb") as packed:
        packed.write(b'{"a":"')
        for _ in range(60):
            packed.write(b"x" * 1_000_000)
        packed.write(b'"}\n{"a":"b"}\n')
    tracemalloc.start()

    try:
        rows = [getattr(row, "reason", row) for _, row in read_rows(file, ignore)]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert rows == ["too_large", {"a": "b"}]
    assert peak < 20_000_000


def test_column_names_need_utf8_and_tab_may_separate(tmp_path):
    file = tmp_path / "odd.csv"
    file.write_bytes("userId,properties.prénom\na,b\n".encode("cp1252"))

    with pytest.raises(ConfigurationError, match="UTF-8"):
        list(read_rows(file, ignore))

    file.write_text("sep=\t\nuserId\tevent\nu\tx\n")

    assert list(read_rows(file, ignore)) == [(3, {"userId": "u", "event": "x"})]
