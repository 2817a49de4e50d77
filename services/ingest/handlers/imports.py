"""Import of files: rows become calls and are normalised like calls of the tracking API.

Rejected rows go to a file beside, with line and reason. A row without a message id gets one derived
from its line and content, so that importing the same file twice adds nothing. Progress is stored
after each batch that Kafka has: an import resumes there after a crash, and sends the batch that was
in flight again under the same ids.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

import msgspec

from libs.common import ids
from libs.common.clock import Clock
from libs.common.db.connection import Session
from libs.common.db.unit_of_work import unit_of_work
from libs.common.errors import InvalidMessage, NotFound, Unavailable
from libs.common.messages import Message
from services.ingest.adapters.row_files import (
    ProgressCallback,
    file_digest,
    read_rows,
    rejects_path,
)
from services.ingest.domain.call_mapping import CallMapping, call_from_columns
from services.ingest.domain.normalise import normalise
from services.ingest.domain.request_context import NormalisationRules, RequestContext
from services.ingest.domain.source import Source, SourceKey
from services.ingest.domain.tracking_call import parse_call
from services.ingest.handlers.ingestion import MessagePublisher
from services.ingest.handlers.outgoing_messages import touchpoint_message
from services.ingest.repository import imports, sources
from services.ingest.repository.imports import ImportProgress

BATCH_ROWS = 2_000
ROWS_PER_YIELD = 100
PUBLISH_SECONDS = 60
MAX_SHOWN_REJECTS = 10


class RejectedRow(msgspec.Struct, frozen=True):
    """A row that is no valid touchpoint; lines count from 1, so a CSV's first row is line 2."""

    line: int
    reason: str
    error: str
    row: Any


class FileImporter:
    """Imports files into sources."""

    def __init__(
        self, session: Session, publisher: MessagePublisher, clock: Clock, rules: NormalisationRules
    ) -> None:
        self._session = session
        self._publisher = publisher
        self._clock = clock
        self._rules = rules

    async def dry_run(
        self,
        path: Path,
        source_key: SourceKey,
        template: CallMapping | None,
        report_progress: ProgressCallback,
    ) -> tuple[int, int, list[RejectedRow]]:
        """Read a file and send nothing; return the counts of good and bad rows, and the first bad.

        Raises NotFound for an unknown source, ConfigurationError for a file that cannot be read.
        """
        source = await self.get_source(source_key)
        good, bad = 0, 0
        first: list[RejectedRow] = []
        for line, row in read_rows(path, report_progress):
            await _yield_to_loop(line)
            try:
                self._touchpoint(source, line, row, template, historical=True)
                good += 1
            except InvalidMessage as error:
                bad += 1
                if len(first) < MAX_SHOWN_REJECTS:
                    first.append(_reject(line, error, row))
        return good, bad, first

    async def run(
        self,
        path: Path,
        source_key: SourceKey,
        template: CallMapping | None,
        report_progress: ProgressCallback,
        *,
        historical: bool = True,
    ) -> ImportProgress:
        """Import a file from its stored progress on; return the progress in all.

        Raises NotFound, ConfigurationError, and Unavailable when Kafka or PostgreSQL does not
        answer; a later run resumes then.
        """
        source = await self.get_source(source_key)
        content = await asyncio.to_thread(file_digest, path)
        tree = None if template is None else template.tree
        async with self._session.acquire() as connection, unit_of_work(connection):
            progress = await imports.upsert_import(
                connection,
                source_key,
                content,
                import_fingerprint(tree, historical=historical),
                path.name,
            )
        if progress.finished:
            return msgspec.structs.replace(progress, finished_before=True)
        with _open_rejects(path, truncate=not progress.next_line) as rejects_file:
            rows = read_rows(path, report_progress)
            async for batch in _batches(rows, progress.next_line):
                progress = await self._import_batch(
                    source, batch, template, rejects_file, progress, historical=historical
                )
                async with self._session.acquire() as connection, unit_of_work(connection):
                    await imports.update_progress(connection, source_key, content, progress)
            progress = msgspec.structs.replace(progress, finished=True)
            async with self._session.acquire() as connection, unit_of_work(connection):
                await imports.update_progress(connection, source_key, content, progress)
        if not progress.rejected:
            rejects_path(path).unlink(missing_ok=True)
        return progress

    async def get_source(self, source_key: SourceKey) -> Source:
        """Return the source (workspace, name). Raises NotFound."""
        async with self._session.acquire() as connection:
            source = await sources.get_source_for_update(connection, source_key)
        if source is None:
            name = source_key.name
            raise NotFound(
                f"no source {name!r}: 'perigee source create {name} --mode historical' creates it"
            )
        return source

    async def _import_batch(
        self,
        source: Source,
        batch: list[tuple[int, Any]],
        template: CallMapping | None,
        rejects_file: IO[str],
        progress: ImportProgress,
        *,
        historical: bool,
    ) -> ImportProgress:
        """Publish a batch and write its rejects; return the progress. Raises Unavailable."""
        valid_rows: list[tuple[int, Any, Message]] = []
        rejected_rows: list[RejectedRow] = []
        for line, row in batch:
            await _yield_to_loop(line)
            try:
                message = self._touchpoint(source, line, row, template, historical=historical)
                valid_rows.append((line, row, message))
            except InvalidMessage as error:
                rejected_rows.append(_reject(line, error, row))
        outcomes = await self._publisher.publish(
            [message for _, _, message in valid_rows], PUBLISH_SECONDS
        )
        faults = [
            fault
            for fault in outcomes
            if fault is not None and not isinstance(fault, InvalidMessage)
        ]
        for (line, row, _), fault in zip(valid_rows, outcomes, strict=True):
            if isinstance(fault, InvalidMessage):
                rejected_rows.append(_reject(line, fault, row))
        if faults:
            raise Unavailable(
                f"Kafka did not accept a batch: {faults[0]}; "
                f"run the import again, it goes on at line {progress.next_line}"
            )
        for rejected_row in rejected_rows:
            document = msgspec.to_builtins(rejected_row)
            rejects_file.write(json.dumps(document, default=str) + "\n")
        rejects_file.flush()
        return ImportProgress(
            batch[-1][0] + 1,
            progress.accepted + len(batch) - len(rejected_rows),
            progress.rejected + len(rejected_rows),
        )

    def _touchpoint(
        self, source: Source, line: int, row: Any, template: CallMapping | None, *, historical: bool
    ) -> Message:
        if isinstance(row, InvalidMessage):
            raise row
        call = template.to_call(row) if template else call_from_columns(row)
        if historical:
            context = call.get("context")
            call["context"] = {
                **(context if isinstance(context, dict) else {}),
                "mode": "historical",
            }
        derived_id = ids.derive_id(
            "import", str(line), json.dumps(row, sort_keys=True, default=str)
        )
        request_context = RequestContext(
            source, self._clock.now(), lambda: derived_id, "track", rules=self._rules
        )
        return touchpoint_message(
            normalise(parse_call(json.dumps(call, default=str).encode()), request_context)
        )


def _open_rejects(path: Path, *, truncate: bool) -> IO[str]:
    """Open the file of rejected rows. Raises Unavailable when it cannot be written."""
    try:
        return rejects_path(path).open("w" if truncate else "a", encoding="utf-8")
    except OSError as error:
        raise Unavailable(
            f"{rejects_path(path)} cannot be written: {error.strerror}; nothing was sent"
        ) from None


def import_fingerprint(tree: Any, *, historical: bool) -> bytes:
    """Return the digest of an import's mapping and mode; a changed one restarts the import."""
    return sha256(json.dumps([tree, historical], sort_keys=True, default=str).encode()).digest()


async def _yield_to_loop(line: int) -> None:
    """Yield to the event loop now and then: imports share the process with the tracking API."""
    if line % ROWS_PER_YIELD == 0:
        await asyncio.sleep(0)


def _reject(line: int, error: InvalidMessage, row: Any) -> RejectedRow:
    return RejectedRow(
        line, error.reason, error.detail, None if isinstance(row, InvalidMessage) else row
    )


async def _batches(
    rows: Iterator[tuple[int, Any]], first_line: int
) -> AsyncIterator[list[tuple[int, Any]]]:
    batch: list[tuple[int, Any]] = []
    for line, row in rows:
        if line < first_line:
            await _yield_to_loop(line)
            continue
        batch.append((line, row))
        if len(batch) == BATCH_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch
