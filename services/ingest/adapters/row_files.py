"""Files of rows: CSV and NDJSON, plain or gzip, read in constant memory."""

import csv
import gzip
import hashlib
import io
import itertools
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from libs.common.errors import ConfigurationError, InvalidMessage

_MAX_LINE_CHARACTERS = 1_000_000
_NOT_UTF8 = InvalidMessage(
    "bad_encoding", "the line is not UTF-8: save the file as UTF-8 and import it again"
)
ProgressCallback = Callable[[int], None]
"""Gets the number of bytes of a file that are read so far."""


def rejects_path(path: Path) -> Path:
    """Return the path of a file's rejected rows."""
    return path.with_name(f"{path.name}.rejects.ndjson")


def file_digest(path: Path) -> bytes:
    """Return the SHA-256 of a file. Raises ConfigurationError when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None


def read_rows(path: Path, report_progress: ProgressCallback) -> Iterator[tuple[int, Any]]:
    """Yield (line, row) of a CSV or NDJSON file; an unreadable row comes as its InvalidMessage.

    Raises ConfigurationError for another kind of file, or one that cannot be read.
    """
    kind = path.name.removesuffix(".gz").rsplit(".", 1)[-1].lower()
    if kind not in ("csv", "ndjson", "jsonl"):
        raise ConfigurationError(f"{path.name}: .csv, .ndjson or .jsonl, and .gz of these")
    try:
        with path.open("rb") as raw:
            plain_file: Any = gzip.GzipFile(fileobj=raw) if path.name.endswith(".gz") else raw
            text = io.TextIOWrapper(
                plain_file, encoding="utf-8-sig", errors="surrogateescape", newline=""
            )
            for line, row in _csv_rows(text) if kind == "csv" else _ndjson_rows(text):
                report_progress(raw.tell())
                yield line, row
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigurationError(f"{path.name} cannot be read: {error}") from None


def _column_names(reader: Iterator[list[str]]) -> list[str]:
    """Return the names of the columns. Raises ConfigurationError."""
    try:
        names = next(reader, [])
    except csv.Error as error:
        raise ConfigurationError(f"the names of the columns cannot be read: {error}") from None
    if not _is_utf8("".join(names)):
        raise ConfigurationError(f"the names of the columns: {_NOT_UTF8.detail}")
    if len(set(names)) < len(names):
        repeated = sorted({name for name in names if names.count(name) > 1})
        raise ConfigurationError(f"several columns have the same name: {', '.join(repeated)}")
    return names


def _bounded_lines(text: IO[str]) -> Iterator[str]:
    """Yield lines. Raises ConfigurationError for a line that is too long.

    The next line could begin in the middle of a cell, so reading cannot go on.
    """
    for number, content in enumerate(_lines(text), 2):
        if isinstance(content, InvalidMessage):
            raise ConfigurationError(f"line {number} cannot be read: {content.detail}")
        yield content


def _csv_rows(text: IO[str]) -> Iterator[tuple[int, Any]]:
    csv.field_size_limit(_MAX_LINE_CHARACTERS)
    sample, skipped_lines = text.readline(_MAX_LINE_CHARACTERS), 0
    delimiter = max(",;\t|", key=sample.count)
    # Excel writes a line with the delimiter above the names.
    if sample.startswith("sep=") and len(sample.rstrip("\r\n")) == 5:
        delimiter, sample, skipped_lines = sample[4], text.readline(_MAX_LINE_CHARACTERS), 1
    reader = csv.reader(itertools.chain([sample], _bounded_lines(text)), delimiter=delimiter)
    names = _column_names(reader)
    while True:
        line = reader.line_num + 1 + skipped_lines
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            # The next line could begin in the middle of a cell.
            raise ConfigurationError(f"line {line} cannot be read: {error}") from None
        if not cells:
            continue
        if len(cells) > len(names):
            yield line, InvalidMessage("bad_csv", f"{len(cells)} cells under {len(names)} names")
        elif not _is_utf8("".join(cells)):
            yield line, _NOT_UTF8
        else:
            yield line, dict(zip(names, cells, strict=False))


def _is_utf8(content: str) -> bool:
    """Return whether a text was valid UTF-8: invalid bytes are read as lone surrogates."""
    try:
        content.encode()
    except UnicodeEncodeError:
        return False
    return True


def _lines(text: IO[str]) -> Iterator[str | InvalidMessage]:
    """Yield lines; a line that is too long is skipped unread and comes as its InvalidMessage."""
    while content := text.readline(_MAX_LINE_CHARACTERS):
        if len(content) < _MAX_LINE_CHARACTERS or content.endswith("\n"):
            yield content
            continue
        while (rest := text.readline(_MAX_LINE_CHARACTERS)) and not rest.endswith("\n"):
            pass
        yield InvalidMessage(
            "too_large", f"the line has more than {_MAX_LINE_CHARACTERS:,} characters"
        )


def _ndjson_rows(text: IO[str]) -> Iterator[tuple[int, Any]]:
    for line, content in enumerate(_lines(text), 1):
        if isinstance(content, InvalidMessage):
            yield line, content
            continue
        if not content.strip():
            continue
        if not _is_utf8(content):
            yield line, _NOT_UTF8
            continue
        try:
            row = json.loads(content)
        except (ValueError, RecursionError) as error:
            yield line, InvalidMessage("bad_json", str(error)[:200])
            continue
        yield (
            line,
            row if isinstance(row, dict) else InvalidMessage("bad_json", "a row is a JSON object"),
        )
