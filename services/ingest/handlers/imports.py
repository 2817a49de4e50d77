"""Files: rows become calls, calls pass the door's own rules, what is refused goes to a file beside with line and reason.

A row's message id is that of its content and line unless the row names one, so that the same file twice adds nothing. How
far an import has come is noted after each batch that Kafka has: it goes on there after a crash, and the batch that was under
way is sent again under the same ids.
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
from services.ingest.domain.source import Source
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
    """A row that is no touchpoint; lines count from 1, and a CSV's first row is line 2."""

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
        place: tuple[str, str],
        template: CallMapping | None,
        said: ProgressCallback,
    ) -> tuple[int, int, list[RejectedRow]]:
        """Read the file and send nothing; return how many rows are good and bad, and the first bad ones.

        Raises NotFound for an unknown source, ConfigurationError for a file that cannot be read.
        """
        source = await self.get_source(place)
        good, bad = 0, 0
        first: list[RejectedRow] = []
        for line, row in read_rows(path, said):
            await _give_way(line)
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
        place: tuple[str, str],
        template: CallMapping | None,
        said: ProgressCallback,
        *,
        historical: bool = True,
    ) -> ImportProgress:
        """Import a file, or what is left of it; return how far it has come in all.

        Raises NotFound, ConfigurationError, and Unavailable when Kafka or PostgreSQL does not answer: run it again then.
        """
        source = await self.get_source(place)
        content = await asyncio.to_thread(file_digest, path)
        tree = None if template is None else template.tree
        async with self._session.acquire() as connection, unit_of_work(connection):
            now = await imports.upsert_import(
                connection,
                place,
                content,
                import_fingerprint(tree, historical=historical),
                path.name,
            )
        if now.finished:
            return msgspec.structs.replace(now, finished_before=True)
        with _beside(path, begin=not now.next_line) as beside:
            async for batch in _batches(read_rows(path, said), now.next_line):
                now = await self._take(source, batch, template, beside, now, historical=historical)
                async with self._session.acquire() as connection, unit_of_work(connection):
                    await imports.update_progress(connection, place, content, now)
            now = msgspec.structs.replace(now, finished=True)
            async with self._session.acquire() as connection, unit_of_work(connection):
                await imports.update_progress(connection, place, content, now)
        if not now.rejected:
            rejects_path(path).unlink(missing_ok=True)
        return now

    async def get_source(self, place: tuple[str, str]) -> Source:
        """Return the source at (workspace, name). Raises NotFound."""
        async with self._session.acquire() as connection:
            found = await sources.get_source_for_update(connection, place)
        if found is None:
            raise NotFound(
                f"no source {place[1]!r}: 'perigee source create {place[1]} --mode historical' makes one"
            )
        return found

    async def _take(
        self,
        source: Source,
        batch: list[tuple[int, Any]],
        template: CallMapping | None,
        beside: IO[str],
        now: ImportProgress,
        *,
        historical: bool,
    ) -> ImportProgress:
        good: list[tuple[int, Any, Message]] = []
        refused: list[RejectedRow] = []
        for line, row in batch:
            await _give_way(line)
            try:
                good.append(
                    (
                        line,
                        row,
                        self._touchpoint(source, line, row, template, historical=historical),
                    )
                )
            except InvalidMessage as error:
                refused.append(_reject(line, error, row))
        outcomes = await self._publisher.publish(
            [message for _, _, message in good], PUBLISH_SECONDS
        )
        faults = [
            fault
            for fault in outcomes
            if fault is not None and not isinstance(fault, InvalidMessage)
        ]
        for (line, row, _), fault in zip(good, outcomes, strict=True):
            if isinstance(fault, InvalidMessage):
                refused.append(_reject(line, fault, row))
        if faults:
            raise Unavailable(
                f"Kafka did not take a batch: {faults[0]}; run the import again, it goes on at line {now.next_line}"
            )
        for reject in refused:
            beside.write(json.dumps(msgspec.to_builtins(reject), default=str) + "\n")
        beside.flush()
        accepted, rejected = now.accepted + len(batch) - len(refused), now.rejected + len(refused)
        return ImportProgress(batch[-1][0] + 1, accepted, rejected)

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
        made_up = ids.derive_id("import", str(line), json.dumps(row, sort_keys=True, default=str))
        received = RequestContext(
            source, self._clock.now(), lambda: made_up, "track", rules=self._rules
        )
        return touchpoint_message(
            normalise(parse_call(json.dumps(call, default=str).encode()), received)
        )


def _beside(path: Path, *, begin: bool) -> IO[str]:
    """Open the file of rejects, anew at the `begin`. Raises Unavailable when it cannot be written."""
    try:
        return rejects_path(path).open("w" if begin else "a", encoding="utf-8")
    except OSError as error:
        raise Unavailable(
            f"{rejects_path(path)} cannot be written: {error.strerror}; nothing was sent"
        ) from None


def import_fingerprint(tree: Any, *, historical: bool) -> bytes:
    """Return what an import's outcome depends on beside its file, as a digest: once that is another, the file is read again."""
    return sha256(json.dumps([tree, historical], sort_keys=True, default=str).encode()).digest()


async def _give_way(line: int) -> None:
    """Let the door answer others now and then: an import through it runs in its process."""
    if line % ROWS_PER_YIELD == 0:
        await asyncio.sleep(0)


def _reject(line: int, error: InvalidMessage, row: Any) -> RejectedRow:
    return RejectedRow(
        line, error.reason, error.detail, None if isinstance(row, InvalidMessage) else row
    )


async def _batches(
    found: Iterator[tuple[int, Any]], begin: int
) -> AsyncIterator[list[tuple[int, Any]]]:
    batch: list[tuple[int, Any]] = []
    for line, row in found:
        if line < begin:
            await _give_way(line)
            continue
        batch.append((line, row))
        if len(batch) == BATCH_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch
