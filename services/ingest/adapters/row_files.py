"""Files of rows: CSV and NDJSON, gzipped or not, read with flat memory."""

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

_LONGEST_LINE = 1_000_000
_NOT_UTF8 = InvalidMessage(
    "bad_encoding", "the line is not UTF-8: save the file as UTF-8 and import it again"
)
ProgressCallback = Callable[[int], None]
"""What is told how many bytes of a file are read."""


def rejects_path(path: Path) -> Path:
    """Return where a file's rejects are written."""
    return path.with_name(f"{path.name}.rejects.ndjson")


def file_digest(path: Path) -> bytes:
    """Return the SHA-256 of a file. Raises ConfigurationError when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None


def read_rows(path: Path, said: ProgressCallback) -> Iterator[tuple[int, Any]]:
    """Yield (line, row) of a CSV or NDJSON file, gzipped or not; a row that cannot be read comes as its InvalidMessage.

    `said` is told how many bytes of the file are read. Raises ConfigurationError for another kind of file.
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
            for line, row in _csv(text) if kind == "csv" else _ndjson(text):
                said(raw.tell())
                yield line, row
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigurationError(f"{path.name} cannot be read: {error}") from None


def _names(reader: Iterator[list[str]]) -> list[str]:
    """Return the columns' names. Raises ConfigurationError."""
    try:
        names = next(reader, [])
    except csv.Error as error:
        raise ConfigurationError(f"the names of the columns cannot be read: {error}") from None
    if not _is_utf8("".join(names)):
        raise ConfigurationError(f"the names of the columns: {_NOT_UTF8.detail}")
    if len(set(names)) < len(names):
        raise ConfigurationError(
            f"two columns have one name: {', '.join(sorted({n for n in names if names.count(n) > 1}))}"
        )
    return names


def _bounded(text: IO[str]) -> Iterator[str]:
    """Yield lines. Raises ConfigurationError for one that is too long: what follows might be read from the middle of a cell."""
    for number, content in enumerate(_lines(text), 2):
        if isinstance(content, InvalidMessage):
            raise ConfigurationError(f"line {number} cannot be read: {content.detail}")
        yield content


def _csv(text: IO[str]) -> Iterator[tuple[int, Any]]:
    csv.field_size_limit(_LONGEST_LINE)
    sample, before = text.readline(_LONGEST_LINE), 0
    delimiter = max(",;\t|", key=sample.count)
    if (
        sample.startswith("sep=") and len(sample.rstrip("\r\n")) == 5
    ):  # what Excel writes above the names
        delimiter, sample, before = sample[4], text.readline(_LONGEST_LINE), 1
    reader = csv.reader(itertools.chain([sample], _bounded(text)), delimiter=delimiter)
    names = _names(reader)
    while True:
        line = reader.line_num + 1 + before
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            # What follows would be read from the middle of a cell.
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
    """Return whether a text was read whole; what is not UTF-8 stands in it as halves of surrogate pairs."""
    try:
        content.encode()
    except UnicodeEncodeError:
        return False
    return True


def _lines(text: IO[str]) -> Iterator[str | InvalidMessage]:
    """Yield lines; one that is too long is skipped and comes as its InvalidMessage, without being held."""
    while content := text.readline(_LONGEST_LINE):
        if len(content) < _LONGEST_LINE or content.endswith("\n"):
            yield content
            continue
        while (rest := text.readline(_LONGEST_LINE)) and not rest.endswith("\n"):
            pass
        yield InvalidMessage("too_large", f"the line has more than {_LONGEST_LINE:,} characters")


def _ndjson(text: IO[str]) -> Iterator[tuple[int, Any]]:
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
