"""Progress of imports."""

from datetime import datetime

import msgspec

from libs.common.db.connection import Connection
from libs.common.ids import WorkspaceId
from services.ingest.domain.source import SourceKey


class ImportProgress(msgspec.Struct, frozen=True):
    """Progress of an import: rows before `next_line` are done.

    `finished_before`: an earlier run finished it and this run did nothing.
    """

    next_line: int = 0
    accepted: int = 0
    rejected: int = 0
    finished: bool = False
    finished_before: bool = False


class ImportRow(msgspec.Struct, frozen=True):
    """An import, as an operator sees it."""

    content: str
    source: str
    name: str
    next_line: int
    accepted: int
    rejected: int
    begun_at: datetime | None
    finished_at: datetime | None
    fingerprint: str
    """Digest of mapping and mode in hexadecimal; with another the file is imported again."""


_ROW = (
    "SELECT encode(content, 'hex'), source, name, next_line, accepted, rejected, "
    "begun_at, finished_at, encode(how, 'hex') FROM ingest.imports"
)


async def get_import(
    connection: Connection, source_key: SourceKey, content: str
) -> ImportRow | None:
    """Return the import of a file (SHA-256 in hexadecimal) into a source (workspace, name)."""
    row = await connection.fetchrow(
        f"{_ROW} WHERE (workspace, source, content) = ($1, $2, decode($3, 'hex'))",
        *source_key,
        content,
    )
    return None if row is None else ImportRow(*row)


async def list_imports(connection: Connection, workspace: WorkspaceId) -> list[ImportRow]:
    """Return a workspace's last thousand imports, the newest first."""
    rows = await connection.fetch(
        f"{_ROW} WHERE workspace = $1 ORDER BY begun_at DESC LIMIT 1000",
        workspace,
    )
    return [ImportRow(*row) for row in rows]


async def list_imports_of_file(
    connection: Connection, workspace: WorkspaceId, content: str
) -> list[ImportRow]:
    """Return a workspace's imports of the file with this SHA-256 (hexadecimal), by source."""
    rows = await connection.fetch(
        f"{_ROW} WHERE workspace = $1 AND content = decode($2, 'hex') ORDER BY source",
        workspace,
        content,
    )
    return [ImportRow(*row) for row in rows]


async def upsert_import(
    connection: Connection,
    source_key: SourceKey,
    content: bytes,
    fingerprint: bytes,
    name: str,
) -> ImportProgress:
    """Return the progress of the import of a file into a source (workspace, name).

    An import that is new, or has another fingerprint, starts at the first line.
    """
    row = await connection.fetchrow(
        "INSERT INTO ingest.imports (workspace, source, content, how, name) "
        "VALUES ($1, $2, $3, $4, $5) "
        "ON CONFLICT (workspace, source, content) DO UPDATE SET name = excluded.name "
        "RETURNING next_line, accepted, rejected, finished_at IS NOT NULL, how = $4",
        *source_key, content, fingerprint, name,
    )  # fmt: skip
    assert row is not None
    *progress, is_same = row
    if is_same:
        return ImportProgress(*progress)
    await connection.execute(
        "UPDATE ingest.imports SET how = $4, next_line = 0, accepted = 0, rejected = 0, "
        "begun_at = now(), finished_at = NULL "
        "WHERE (workspace, source, content) = ($1, $2, $3)",
        *source_key, content, fingerprint,
    )  # fmt: skip
    return ImportProgress()


async def update_progress(
    connection: Connection, source_key: SourceKey, content: bytes, progress: ImportProgress
) -> None:
    """Store the progress of an import."""
    await connection.execute(
        "UPDATE ingest.imports SET next_line = $4, accepted = $5, rejected = $6, "
        "finished_at = CASE WHEN $7 THEN now() END "
        "WHERE (workspace, source, content) = ($1, $2, $3)",
        *source_key,
        content,
        progress.next_line,
        progress.accepted,
        progress.rejected,
        progress.finished,
    )
