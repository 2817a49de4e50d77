"""Import of a file through ingest's API: upload, progress, rejected rows.

Imported late, for its dependencies.
"""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.progress import Progress

from cli.api_client import call_api, get_text
from cli.terminal import progress
from libs.common.errors import ConfigurationError, NotFound, PerigeeError

CHUNK_BYTES = 256 * 1024
POLL_SECONDS = 0.3
MAX_NAME_CHARACTERS = 60
UNKNOWN_SECONDS = 60.0
"""Longest wait for an import that ingest does not know: its instance may be gone."""
_SUFFIX = re.compile(r"\.(csv|ndjson|jsonl)(\.gz)?$", re.IGNORECASE)


class FileImport:
    """One file and one source.

    The same file again goes on where its import stopped, or adds nothing.
    """

    def __init__(
        self,
        environment: dict[str, str],
        file: Path,
        source: str,
        mapping: Path | None,
        *,
        live: bool,
    ) -> None:
        """Raises ConfigurationError for a file or a mapping that cannot be read."""
        self._environment = environment
        self._file = file
        self._source = source
        self._params: dict[str, Any] = {
            "source": source,
            "name": _upload_name(file),
            "live": live,
            "mapping": "" if mapping is None else _read_text(mapping),
        }

    def dry_run(self) -> dict[str, Any]:
        """Return how many rows are good and bad, and the first bad ones. Raises PerigeeError."""
        return self._upload("checking", dry_run=True)

    def run(self) -> dict[str, Any]:
        """Import the file, wait for the end and fetch the rejected rows; return the figures.

        Raises NotFound for an unknown source, ConfigurationError, Unavailable, PerigeeError with
        the import's fault.
        """
        accepted = self._upload("uploading", dry_run=False)
        status = self._wait(accepted["content"], accepted["fingerprint"])
        rejects = self._file.with_name(f"{self._file.name}.rejects.ndjson")
        if status["rejected"]:
            self._fetch_rejects(accepted["content"], rejects)
        else:
            rejects.unlink(missing_ok=True)
        return {
            "next_line": status["next_line"],
            "accepted": status["accepted"],
            "rejected": status["rejected"],
            "finished": True,
            "before": accepted["finished_before"],
        }

    def _upload(self, verb: str, *, dry_run: bool) -> dict[str, Any]:
        with Progress(console=progress, transient=True) as bar:
            task = bar.add_task(verb, total=self._file.stat().st_size)

            def chunks() -> Iterator[bytes]:
                with self._file.open("rb") as content:
                    while chunk := content.read(CHUNK_BYTES):
                        yield chunk
                        bar.advance(task, len(chunk))

            answer: dict[str, Any] = self._call(
                "POST",
                "",
                params={**self._params, "dry_run": dry_run},
                content=chunks(),
                timeout=None,
            )
        return answer

    def _wait(self, content: str, fingerprint: str) -> dict[str, Any]:
        """Return the import's status at its end. Raises PerigeeError with its fault."""
        unknown_since: float | None = None
        with progress.status("importing") as line:
            while True:
                try:
                    status: dict[str, Any] = self._call(
                        "GET", f"/{content}", params={"source": self._source}
                    )
                except NotFound:
                    unknown_since = unknown_since or time.monotonic()
                    if time.monotonic() - unknown_since > UNKNOWN_SECONDS:
                        raise
                else:
                    unknown_since = None
                    if status["finished_at"] and status["fingerprint"] == fingerprint:
                        return status
                    if status["fault"] and not status["queued"]:
                        raise PerigeeError(f"{self._file.name}: {status['fault']}")
                    rows = status["accepted"] + status["rejected"]
                    line.update(f"importing: {rows:,} rows {status['fault'] or ''}")
                time.sleep(POLL_SECONDS)

    def _fetch_rejects(self, content: str, rejects: Path) -> None:
        try:
            text = get_text(
                self._environment,
                f"/admin/v1/imports/{content}/rejects",
                service="INGEST_URL",
                params={"source": self._source},
            )
        except NotFound:
            if rejects.exists():  # an earlier run fetched them
                return
            raise
        try:
            rejects.write_text(text, encoding="utf-8")
        except OSError as error:
            raise PerigeeError(
                f"the file is imported, but {rejects} cannot be written: {error.strerror}"
            ) from None

    def _call(self, method: str, path: str, **options: Any) -> Any:
        return call_api(
            self._environment, method, f"/admin/v1/imports{path}", service="INGEST_URL", **options
        )


def _upload_name(file: Path) -> str:
    """Return a name that ingest accepts, with the file's ending. Raises ConfigurationError."""
    if not file.is_file():
        raise ConfigurationError(f"{file} cannot be read: no such file")
    suffix = _SUFFIX.search(file.name)
    if suffix is None:
        raise ConfigurationError(f"{file.name}: .csv, .ndjson or .jsonl, and .gz of these")
    stem = re.sub(r"[^A-Za-z0-9_.-]", "_", file.name[: suffix.start()])[:MAX_NAME_CHARACTERS]
    return f"{stem or 'file'}{suffix[0].lower()}"


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
