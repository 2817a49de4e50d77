"""Files uploaded by the admin API: stored until they are imported, one after another.

An upload is named by its content. The same file again resumes its import, and adds nothing once the
import is finished.
"""

import asyncio
import contextlib
import re
import shutil
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from libs.common.db.connection import Session
from libs.common.errors import ConfigurationError, NotFound, PerigeeError, Unavailable
from libs.common.ids import WorkspaceId
from libs.common.observability import logs, metrics
from services.ingest.adapters.row_files import file_digest
from services.ingest.domain.call_mapping import CallMapping
from services.ingest.domain.source import SourceKey
from services.ingest.handlers.imports import FileImporter, import_fingerprint
from services.ingest.handlers.stored_upload import (
    FINGERPRINT_CHARACTERS,
    AcceptedUpload,
    QueuedUpload,
    stored_name,
    stored_stem,
)
from services.ingest.repository import imports
from services.ingest.repository.imports import ImportRow

log = logs.get_logger(__name__)
_FILE_NAME = re.compile(r"[\w.\- ]{1,100}\.(csv|ndjson|jsonl)(\.gz)?", re.ASCII)
RETRY_SECONDS = 5


class UploadQueue:
    """Stores files, imports them in the background and reports their progress."""

    def __init__(
        self, importer: FileImporter, session: Session, folder: Path, max_bytes: int
    ) -> None:
        self._importer = importer
        self._session = session
        self._folder = folder
        self._max_bytes = max_bytes
        self._waiting: asyncio.Queue[QueuedUpload] = asyncio.Queue()
        self._faults: dict[tuple[str, str, str], str] = {}
        """{(workspace, source, content): reason for which the import stopped}"""
        self._queued: set[tuple[str, str, str]] = set()
        """Unfinished imports of this process: waiting, running, or to be retried."""

    async def receive(self, name: str, chunks: AsyncIterator[bytes]) -> Path:
        """Store a file chunk by chunk; return its path.

        Raises ConfigurationError for another kind of file or one that is too large, Unavailable.
        """
        if not _FILE_NAME.fullmatch(name):
            raise ConfigurationError(
                f"{name!r:.120}: the name of a .csv, .ndjson or .jsonl file, or a .gz of these, "
                "is needed: letters, digits, spaces, '.', '-' and '_'"
            )
        size = 0
        path = self._folder / f"{uuid.uuid4().hex}-{name}"
        try:
            # Readable by the owner only: the files contain personal data.
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with path.open("wb") as file:
                async for chunk in chunks:
                    size += len(chunk)
                    if size > self._max_bytes:
                        raise ConfigurationError(
                            f"more than {self._max_bytes:,} bytes: "
                            "split the file, or raise PERIGEE_IMPORT_BYTES"
                        )
                    await asyncio.to_thread(file.write, chunk)
        except OSError as error:
            _delete_file(path)
            raise Unavailable(
                f"the file cannot be stored in {self._folder}: {error.strerror}"
            ) from None
        except BaseException:
            _delete_file(path)
            raise
        return path

    async def dry_run(self, path: Path, source_key: SourceKey, mapping: Any) -> dict[str, Any]:
        """Read a file, send nothing and delete it.

        Return the counts of good and bad rows, and the first bad rows.
        """
        try:
            good, bad, first = await self._importer.dry_run(
                path, source_key, _template(mapping), lambda _: None
            )
            return {"good": good, "bad": bad, "first": msgspec.to_builtins(first)}
        finally:
            _delete_file(path)

    async def enqueue(
        self, path: Path, source_key: SourceKey, mapping: Any, *, historical: bool
    ) -> AcceptedUpload:
        """Add a file to the queue, unless it was imported before in the same way.

        Raises NotFound for an unknown source.
        """
        try:
            await self._importer.get_source(source_key)
            content = (await asyncio.to_thread(file_digest, path)).hex()
            async with self._session.acquire() as connection:
                row = await imports.get_import(connection, source_key, content)
        except PerigeeError:
            _delete_file(path)
            raise
        fingerprint = import_fingerprint(mapping, historical=historical).hex()
        finished = row is not None and row.finished_at is not None
        if finished and row is not None and row.fingerprint == fingerprint:
            _delete_file(path)
            return AcceptedUpload(content, fingerprint, finished_before=True)
        upload = QueuedUpload(
            content,
            stored_name(path, content, source_key, fingerprint),
            source_key.name,
            mapping,
            historical,
            source_key.workspace,
        )
        self._store(path, upload)
        self._faults.pop(upload.import_key, None)
        self._queued.add(upload.import_key)
        self._waiting.put_nowait(upload)
        return AcceptedUpload(content, fingerprint, finished_before=False)

    async def list_imports(self, workspace: WorkspaceId) -> list[dict[str, Any]]:
        """Return a workspace's imports with their progress, the newest first."""
        async with self._session.acquire() as connection:
            rows = await imports.list_imports(connection, workspace)
        return [self._to_document(workspace, row) for row in rows]

    async def get_import(self, source_key: SourceKey, content: str) -> dict[str, Any]:
        """Return the progress of the import of a file into a source (workspace, name).

        Raises NotFound.
        """
        workspace, source = source_key
        async with self._session.acquire() as connection:
            row = await imports.get_import(connection, source_key, content)
        key = (workspace, source, content)
        if row is None and key not in self._queued and key not in self._faults:
            raise NotFound(f"no import of {content!r:.80} into source {source!r:.80}")
        row = row or ImportRow(content, source, "", 0, 0, 0, None, None, "")
        return self._to_document(workspace, row)

    async def rejects_path(
        self, workspace: WorkspaceId, content: str, source: str | None = None
    ) -> Path:
        """Return the file of an import's rejected rows; of any source by default.

        Raises NotFound.
        """
        async with self._session.acquire() as connection:
            rows = [
                row
                for row in await imports.list_imports_of_file(connection, workspace, content)
                if source in (None, row.source)
            ]
        prefixes = tuple(
            f"{stored_stem(content, SourceKey(workspace, row.source))}"
            f"-{row.fingerprint[:FINGERPRINT_CHARACTERS]}"
            for row in rows
        )
        files = self._folder.glob("*.rejects.ndjson")
        rejects = next((file for file in files if file.name.startswith(prefixes)), None)
        if rejects is None:
            raise NotFound(
                f"no rejected rows of an import {content!r:.80} are here: "
                "it had none, or another instance has them"
            )
        return rejects

    async def collect_disk_gauges(self) -> bool:
        """Set the gauges of the disk that stores the files."""
        with contextlib.suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            usage = shutil.disk_usage(self._folder)
            metrics.DISK_BYTES.labels(folder="imports").set(usage.total)
            metrics.DISK_FREE.labels(folder="imports").set(usage.free)
        return False

    async def process_queue(self, stop: asyncio.Event) -> None:
        """Import queued files until `stop`, those of an earlier process first.

        An import is retried while Kafka or PostgreSQL is unavailable.
        """
        for record in sorted(self._folder.glob("*.upload.json")):
            with contextlib.suppress(msgspec.DecodeError):
                upload = msgspec.json.decode(record.read_bytes(), type=QueuedUpload)
                self._queued.add(upload.import_key)
                self._waiting.put_nowait(upload)
        stopped = asyncio.create_task(stop.wait())
        while not stop.is_set():
            job = asyncio.create_task(self._import_next())
            await asyncio.wait([job, stopped], return_when=asyncio.FIRST_COMPLETED)
            job.cancel()  # an unfinished import resumes under the same ids after a restart
            with contextlib.suppress(asyncio.CancelledError):
                await job

    async def _import_next(self) -> None:
        upload = await self._waiting.get()
        path = self._folder / upload.file
        if not path.exists():  # uploaded twice, and the first upload is finished
            self._queued.discard(upload.import_key)
            return
        try:
            template = _template(upload.mapping)
            source_key = SourceKey(upload.workspace, upload.source)
            await self._importer.run(
                path, source_key, template, lambda _: None, historical=upload.historical
            )
        except Unavailable as error:
            self._faults[upload.import_key] = f"it is retried soon: {error}"
            await asyncio.sleep(RETRY_SECONDS)
            self._waiting.put_nowait(upload)
            return
        except PerigeeError as error:
            self._faults[upload.import_key] = str(error)
        except Exception as error:  # noqa: BLE001
            log.error("import_failed", content=upload.content, error=type(error).__name__)  # noqa: TRY400
            self._faults[upload.import_key] = (
                f"{type(error).__name__}: a bug in Perigee; the file was deleted, upload it again"
            )
        else:
            self._faults.pop(upload.import_key, None)
        self._queued.discard(upload.import_key)
        _delete_file(path)
        _delete_file(self._record_path(upload))

    def _store(self, path: Path, upload: QueuedUpload) -> None:
        path.replace(self._folder / upload.file)
        self._record_path(upload).write_bytes(msgspec.json.encode(upload))

    def _record_path(self, upload: QueuedUpload) -> Path:
        return self._folder / f"{upload.file}.upload.json"

    def _to_document(self, workspace: WorkspaceId, row: ImportRow) -> dict[str, Any]:
        document: dict[str, Any] = msgspec.to_builtins(row)
        key = (workspace, row.source, row.content)
        return {
            **document,
            "fault": self._faults.get(key),
            "queued": key in self._queued,
            "rejects": row.rejected > 0,
        }


def _delete_file(path: Path) -> None:
    path.unlink(missing_ok=True)


def _template(mapping: Any) -> CallMapping | None:
    return CallMapping(mapping) if mapping is not None else None
