"""How far imports have come."""

from datetime import datetime

import msgspec

from libs.common.db.connection import Connection


class ImportProgress(msgspec.Struct, frozen=True):
    """An import: rows before `next_line` are done. `finished_before`: an earlier run finished it, this one did nothing."""

    next_line: int = 0
    accepted: int = 0
    rejected: int = 0
    finished: bool = False
    finished_before: bool = False


class ImportRow(msgspec.Struct, frozen=True):
    """An import, as an operator sees it; instants are RFC 3339."""

    content: str
    source: str
    name: str
    next_line: int
    accepted: int
    rejected: int
    begun_at: datetime | None
    finished_at: datetime | None
    fingerprint: str
    """Mapping and mode, as a digest in hexadecimal: with others the file is imported again."""


_ROW = (
    "SELECT encode(content, 'hex'), source, name, next_line, accepted, rejected, begun_at, finished_at, "
    "encode(how, 'hex') FROM ingest.imports"
)


async def get_import(
    connection: Connection, place: tuple[str, str], content: str
) -> ImportRow | None:
    """Return the import of a file, by its SHA-256 in hexadecimal, into the source at (workspace, name)."""
    row = await connection.fetchrow(
        f"{_ROW} WHERE (workspace, source, content) = ($1, $2, decode($3, 'hex'))", *place, content
    )
    return None if row is None else ImportRow(*row)


async def list_imports(connection: Connection, workspace: str) -> list[ImportRow]:
    """Return a workspace's last thousand imports, the newest first."""
    rows = await connection.fetch(
        f"{_ROW} WHERE workspace = $1 ORDER BY begun_at DESC LIMIT 1000",
        workspace,
    )
    return [ImportRow(*row) for row in rows]


async def list_imports_of_file(
    connection: Connection, workspace: str, content: str
) -> list[ImportRow]:
    """Return a workspace's imports of the file with this SHA-256 (hexadecimal), by source."""
    rows = await connection.fetch(
        f"{_ROW} WHERE workspace = $1 AND content = decode($2, 'hex') ORDER BY source",
        workspace,
        content,
    )
    return [ImportRow(*row) for row in rows]


async def upsert_import(
    connection: Connection, place: tuple[str, str], content: bytes, how: bytes, name: str
) -> ImportProgress:
    """Return how far the import of this content into a source has come; it begins when it is new, or read in another way."""
    row = await connection.fetchrow(
        "INSERT INTO ingest.imports (workspace, source, content, how, name) VALUES ($1, $2, $3, $4, $5) "
        "ON CONFLICT (workspace, source, content) DO UPDATE SET name = excluded.name "
        "RETURNING next_line, accepted, rejected, finished_at IS NOT NULL, how = $4",
        *place, content, how, name,
    )  # fmt: skip
    assert row is not None
    *progress, same = row
    if same:
        return ImportProgress(*progress)
    await connection.execute(
        "UPDATE ingest.imports SET how = $4, next_line = 0, accepted = 0, rejected = 0, begun_at = now(), finished_at = NULL "
        "WHERE (workspace, source, content) = ($1, $2, $3)",
        *place, content, how,
    )  # fmt: skip
    return ImportProgress()


async def update_progress(
    connection: Connection, place: tuple[str, str], content: bytes, now: ImportProgress
) -> None:
    """Note how far it has come."""
    await connection.execute(
        "UPDATE ingest.imports SET next_line = $4, accepted = $5, rejected = $6, "
        "finished_at = CASE WHEN $7 THEN now() END WHERE (workspace, source, content) = ($1, $2, $3)",
        *place, content, now.next_line, now.accepted, now.rejected, now.finished,
    )  # fmt: skip
