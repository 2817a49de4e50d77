"""Files that come through the admin door: kept until they are imported, one after another, while the door stays open.

An upload is named by its content. The same file again goes on where its import stopped, and adds nothing once it is finished.
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

from libs.common import ids
from libs.common.db.connection import Session
from libs.common.errors import ConfigurationError, NotFound, PerigeeError, Unavailable
from libs.common.observability import logs, metrics
from services.ingest.adapters.row_files import file_digest
from services.ingest.domain.call_mapping import CallMapping
from services.ingest.handlers.imports import FileImporter, import_fingerprint
from services.ingest.repository import imports
from services.ingest.repository.imports import ImportRow

log = logs.get_logger(__name__)
_NAME = re.compile(r"[\w.\- ]{1,100}\.(csv|ndjson|jsonl)(\.gz)?", re.ASCII)
RETRY_SECONDS = 5
FINGERPRINT_CHARACTERS = 8
"""Characters of the fingerprint in a kept file's name."""


class QueuedUpload(msgspec.Struct, frozen=True):
    """A file that is here, and how its rows are read; kept beside it, so that it outlives the process.

    `content` is the SHA-256 of the file in hexadecimal, `mapping` the template's tree.
    """

    content: str
    file: str
    source: str
    mapping: Any
    historical: bool
    workspace: str = "default"

    @property
    def import_key(self) -> tuple[str, str, str]:
        """Return (workspace, source, content)."""
        return self.workspace, self.source, self.content


class AcceptedUpload(msgspec.Struct, frozen=True):
    """Answer to an upload: the SHA-256 of the file, and of mapping and mode, in hexadecimal.

    `finished_before`: the same file was imported in the same way; it is not kept and adds nothing.
    """

    content: str
    fingerprint: str
    finished_before: bool


class UploadQueue:
    """Takes files, imports them in the background, and says how far each has come."""

    def __init__(
        self, imports_: FileImporter, session: Session, folder: Path, most_bytes: int
    ) -> None:
        self._imports = imports_
        self._session = session
        self._folder = folder
        self._most = most_bytes
        self._waiting: asyncio.Queue[QueuedUpload] = asyncio.Queue()
        self._faults: dict[tuple[str, str, str], str] = {}
        """{(workspace, source, content): why it does not go on}"""
        self._queued: set[tuple[str, str, str]] = set()
        """Imports of this process that are not at their end: waiting, running, or to be tried again."""

    async def receive(self, name: str, chunks: AsyncIterator[bytes]) -> Path:
        """Keep a file as it comes. Raises ConfigurationError for another kind or size of file, Unavailable."""
        if not _NAME.fullmatch(name):
            raise ConfigurationError(
                f"{name!r:.120} is no file's name: orders.csv, .ndjson or .jsonl, and .gz of these"
            )
        size = 0
        path = self._folder / f"{uuid.uuid4().hex}-{name}"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # these are people's data
            with path.open("wb") as file:
                async for chunk in chunks:
                    size += len(chunk)
                    if size > self._most:
                        raise ConfigurationError(
                            f"more than {self._most:,} bytes: split the file, or PERIGEE_IMPORT_BYTES"
                        )
                    await asyncio.to_thread(file.write, chunk)
        except OSError as error:
            _forget(path)
            raise Unavailable(
                f"the file cannot be kept in {self._folder}: {error.strerror}"
            ) from None
        except BaseException:
            _forget(path)
            raise
        return path

    async def dry_run(self, path: Path, place: tuple[str, str], mapping: Any) -> dict[str, Any]:
        """Read a file, send nothing, and forget it; return how many rows are good and bad, and the first bad ones."""
        try:
            good, bad, first = await self._imports.dry_run(
                path, place, _template(mapping), lambda _: None
            )
            return {"good": good, "bad": bad, "first": msgspec.to_builtins(first)}
        finally:
            _forget(path)

    async def enqueue(
        self, path: Path, place: tuple[str, str], mapping: Any, *, historical: bool
    ) -> AcceptedUpload:
        """Put a file in the queue, unless it was imported before. Raises NotFound for an unknown source."""
        try:
            await self._imports.get_source(place)
            content = (await asyncio.to_thread(file_digest, path)).hex()
            async with self._session.acquire() as connection:
                row = await imports.get_import(connection, place, content)
        except PerigeeError:
            _forget(path)
            raise
        fingerprint = import_fingerprint(mapping, historical=historical).hex()
        finished = row is not None and row.finished_at is not None
        if finished and row is not None and row.fingerprint == fingerprint:
            _forget(path)
            return AcceptedUpload(content, fingerprint, finished_before=True)
        upload = QueuedUpload(
            content,
            _kept_name(path, content, place, fingerprint),
            place[1],
            mapping,
            historical,
            place[0],
        )
        self._keep(path, upload)
        self._faults.pop(upload.import_key, None)
        self._queued.add(upload.import_key)
        self._waiting.put_nowait(upload)
        return AcceptedUpload(content, fingerprint, finished_before=False)

    async def list_imports(self, workspace: str) -> list[dict[str, Any]]:
        """Return a workspace's imports and how far it has come, the newest first."""
        async with self._session.acquire() as connection:
            found = await imports.list_imports(connection, workspace)
        return [self._told(workspace, one) for one in found]

    async def get_import(self, place: tuple[str, str], content: str) -> dict[str, Any]:
        """Return how far the import of a file into the source at (workspace, name) has come. Raises NotFound."""
        async with self._session.acquire() as connection:
            row = await imports.get_import(connection, place, content)
        key = (*place, content)
        if row is None and key not in self._queued and key not in self._faults:
            raise NotFound(f"no import of {content!r:.80} into source {place[1]!r:.80}")
        row = row or ImportRow(content, place[1], "", 0, 0, 0, None, None, "")
        return self._told(place[0], row)

    async def rejects_path(self, workspace: str, content: str, source: str | None = None) -> Path:
        """Return the file of an import's rejects, of any source by default. Raises NotFound."""
        async with self._session.acquire() as connection:
            rows = [
                row
                for row in await imports.list_imports_of_file(connection, workspace, content)
                if source in (None, row.source)
            ]
        begin = tuple(
            f"{_stem(content, (workspace, row.source))}-{row.fingerprint[:FINGERPRINT_CHARACTERS]}"
            for row in rows
        )
        found = next(
            (file for file in self._folder.glob("*.rejects.ndjson") if file.name.startswith(begin)),
            None,
        )
        if found is None:
            raise NotFound(
                f"no rejects of an import {content!r:.80} are here: it had none, or another instance has them"
            )
        return found

    async def collect_disk_gauges(self) -> bool:
        """Look at the disk that files wait on."""
        with contextlib.suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = shutil.disk_usage(self._folder)
            metrics.DISK_BYTES.labels(folder="imports").set(found.total)
            metrics.DISK_FREE.labels(folder="imports").set(found.free)
        return False

    async def process_queue(self, stop: asyncio.Event) -> None:
        """Import what waits, what an earlier process left behind first, until told to stop; what is away is waited for."""
        for note in sorted(self._folder.glob("*.upload.json")):
            with contextlib.suppress(msgspec.DecodeError):
                upload = msgspec.json.decode(note.read_bytes(), type=QueuedUpload)
                self._queued.add(upload.import_key)
                self._waiting.put_nowait(upload)
        stopped = asyncio.create_task(stop.wait())
        while not stop.is_set():
            job = asyncio.create_task(self._next())
            await asyncio.wait([job, stopped], return_when=asyncio.FIRST_COMPLETED)
            job.cancel()  # what is under way goes on, under the same ids, when the process is there again
            with contextlib.suppress(asyncio.CancelledError):
                await job

    async def _next(self) -> None:
        upload = await self._waiting.get()
        path = self._folder / upload.file
        if not path.exists():  # it came twice, and the first time is finished
            self._queued.discard(upload.import_key)
            return
        try:
            template = _template(upload.mapping)
            place = (upload.workspace, upload.source)
            await self._imports.run(
                path, place, template, lambda _: None, historical=upload.historical
            )
        except Unavailable as error:
            self._faults[upload.import_key] = f"it goes on soon: {error}"
            await asyncio.sleep(RETRY_SECONDS)
            self._waiting.put_nowait(upload)
            return
        except PerigeeError as error:
            self._faults[upload.import_key] = str(error)
        except Exception as error:  # noqa: BLE001
            log.error("import_failed", content=upload.content, error=type(error).__name__)  # noqa: TRY400
            self._faults[upload.import_key] = (
                f"{type(error).__name__}: a bug of ours; the file is not kept, send it again"
            )
        else:
            self._faults.pop(upload.import_key, None)
        self._queued.discard(upload.import_key)
        _forget(path)
        _forget(self._note(upload))

    def _keep(self, path: Path, upload: QueuedUpload) -> None:
        path.replace(self._folder / upload.file)
        self._note(upload).write_bytes(msgspec.json.encode(upload))

    def _note(self, upload: QueuedUpload) -> Path:
        return self._folder / f"{upload.file}.upload.json"

    def _told(self, workspace: str, one: ImportRow) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.to_builtins(one)
        return {
            **found,
            "fault": self._faults.get((workspace, one.source, one.content)),
            "queued": (workspace, one.source, one.content) in self._queued,
            "rejects": one.rejected > 0,
        }


def _forget(path: Path) -> None:
    path.unlink(missing_ok=True)


def _stem(content: str, place: tuple[str, str]) -> str:
    return f"{content}-{ids.derive_id('upload', *place)[:8]}"


def _kept_name(path: Path, content: str, place: tuple[str, str], fingerprint: str) -> str:
    """Return the name of a file by its content, its source and its fingerprint; its ending is that of its kind."""
    ending = "".join(path.suffixes[-2:] if path.suffix == ".gz" else path.suffixes[-1:])
    return f"{_stem(content, place)}-{fingerprint[:FINGERPRINT_CHARACTERS]}{ending}"


def _template(mapping: Any) -> CallMapping | None:
    return CallMapping(mapping) if mapping is not None else None
