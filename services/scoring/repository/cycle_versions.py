"""Cycle versions: which are folded, and the progress of a rollout.

The cursors `filled_to`, `told_to` and `swept_to` are contact ids. Every contact up to the cursor is
filled, published or swept; null means that the step has not begun or is complete.

Every transaction that folds takes the advisory lock VERSIONS in shared mode. A status change takes
it in exclusive mode, so it never falls inside such a transaction.
"""

import zlib
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from libs.common.db.connection import Connection
from libs.common.db.notifications import notify
from libs.common.ids import ContactId

VERSIONS_CHANNEL = "scoring_cycle_versions"
"""Notified when a version is stored or its status changes."""
VERSIONS = zlib.crc32(b"perigee.cycle-versions") & 0x7FFFFFFF
VersionStatus = Literal["draft", "shadow", "live", "retired"]
ProgressColumn = Literal["filled_to", "told_to", "swept_to"]
_CURSORS: tuple[ProgressColumn, ...] = ("filled_to", "told_to", "swept_to")
_AFTER_LAST_ID = "\U0010ffff"
"""Sorts after every contact id."""
_COLUMNS = (
    "cycle, version, status, spec, fingerprint, author, created_at, live_at, retired_at, "
    "filled_to, told_to, swept_to, per_second"
)


class VersionRow(msgspec.Struct, frozen=True):
    """One version as stored."""

    cycle: str
    version: str
    status: VersionStatus
    spec: str
    fingerprint: bytes
    author: str
    created_at: Any
    live_at: Any
    retired_at: Any
    filled_to: str | None
    told_to: str | None
    swept_to: str | None
    per_second: int

    @property
    def fold(self) -> str:
        """Return the key of the version in all fold tables: `cycle@version`."""
        return f"{self.cycle}@{self.version}"


async def lock_versions_shared(connection: Connection) -> None:
    """Take VERSIONS in shared mode until the transaction ends: no version changes its status."""
    await connection.execute("SELECT pg_advisory_xact_lock_shared($1)", VERSIONS)


async def lock_versions_exclusive(connection: Connection) -> None:
    """Take VERSIONS in exclusive mode: wait for running folds, block new ones until commit."""
    await connection.execute("SELECT pg_advisory_xact_lock($1)", VERSIONS)


async def list_active(connection: Connection) -> tuple[tuple[str, str, str], ...]:
    """Return (cycle, version, status) of the live and shadow versions, live ones first."""
    rows = await connection.fetch(
        "SELECT cycle, version, status FROM scoring.cycle_versions "
        "WHERE status IN ('live', 'shadow') ORDER BY status, cycle"
    )
    return tuple((r[0], r[1], r[2]) for r in rows)


async def list_versions(connection: Connection) -> list[VersionRow]:
    """Return every version, newest first within its cycle."""
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM scoring.cycle_versions ORDER BY cycle, created_at DESC"
    )
    return [VersionRow(*r) for r in rows]


async def get_version(connection: Connection, cycle: str, version: str) -> VersionRow | None:
    """Return one version, or None."""
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM scoring.cycle_versions WHERE (cycle, version) = ($1, $2)",
        cycle,
        version,
    )
    return VersionRow(*row) if row else None


async def get_version_for_update(
    connection: Connection, cycle: str, version: str
) -> VersionRow | None:
    """Lock one version's row and return it; None if it is missing or locked elsewhere."""
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM scoring.cycle_versions WHERE (cycle, version) = ($1, $2) "
        "FOR UPDATE SKIP LOCKED",
        cycle,
        version,
    )
    return VersionRow(*row) if row else None


async def upsert_version(connection: Connection, row: VersionRow) -> None:
    """Insert a version, or overwrite the stored one of the same name."""
    await connection.execute(
        "INSERT INTO scoring.cycle_versions "
        "(cycle, version, status, spec, fingerprint, author, per_second, live_at) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, CASE WHEN $3 = 'live' THEN now() END) "
        "ON CONFLICT (cycle, version) DO UPDATE "
        "SET status = excluded.status, spec = excluded.spec, "
        "fingerprint = excluded.fingerprint, author = excluded.author, "
        "per_second = excluded.per_second",
        row.cycle, row.version, row.status, row.spec, row.fingerprint, row.author, row.per_second,
    )  # fmt: skip
    await notify(connection, VERSIONS_CHANNEL)


async def update_status(
    connection: Connection, cycle: str, version: str, status: VersionStatus
) -> None:
    """Change a version's status and start the step that belongs to it.

    A shadow is filled, a live version's net changes are published, a retired version's rows are
    swept: the cursor of that step becomes the empty string, the other two become null.
    """
    cursor = {"shadow": "filled_to", "live": "told_to", "retired": "swept_to"}.get(status)
    since = {"live": ", live_at = now()", "retired": ", retired_at = now()"}.get(status, "")
    cursors = ", ".join(f"{name} = {repr('') if name == cursor else 'NULL'}" for name in _CURSORS)
    await connection.execute(
        f"UPDATE scoring.cycle_versions SET status = $3, {cursors}{since} "
        "WHERE (cycle, version) = ($1, $2)",
        cycle,
        version,
        status,
    )
    await notify(connection, VERSIONS_CHANNEL)


async def update_progress(
    connection: Connection, row: VersionRow, cursor: ProgressColumn, to: str | None
) -> None:
    """Set one cursor of a version; None marks the step as complete."""
    await connection.execute(
        f"UPDATE scoring.cycle_versions SET {cursor} = $3 WHERE (cycle, version) = ($1, $2)",
        row.cycle,
        row.version,
        to,
    )


async def update_published_at(connection: Connection, row: VersionRow, seconds: float) -> bool:
    """Set `told_at` to now if it is at least 0.9 × `seconds` old; return whether it was.

    Limits the publication rate across processes. The caller has locked the row.
    """
    return bool(
        await connection.fetchval(
            "UPDATE scoring.cycle_versions SET told_at = now() WHERE (cycle, version) = ($1, $2) "
            "AND told_at <= now() - make_interval(secs => $3) RETURNING true",
            row.cycle,
            row.version,
            seconds * 0.9,
        )
    )


async def list_unfinished(connection: Connection, cursor: ProgressColumn) -> list[VersionRow]:
    """Return the versions whose step with this cursor is under way."""
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM scoring.cycle_versions WHERE {cursor} IS NOT NULL"
    )
    return [VersionRow(*r) for r in rows]


async def has_unfinished(connection: Connection) -> bool:
    """Return whether a rollout is unfinished: filling, flip, net changes or sweep."""
    return bool(
        await connection.fetchval(
            "SELECT EXISTS (SELECT FROM scoring.cycle_versions WHERE status = 'shadow' "
            "OR filled_to IS NOT NULL OR told_to IS NOT NULL OR swept_to IS NOT NULL)"
        )
    )


async def get_fill_cursors(connection: Connection, folds: Sequence[str]) -> dict[str, str | None]:
    """Return {fold: `filled_to`} of these folds; None where every contact is filled."""
    rows = await connection.fetch(
        "SELECT cycle || '@' || version, filled_to FROM scoring.cycle_versions "
        "WHERE cycle || '@' || version = ANY($1)",
        list(folds),
    )
    return {r[0]: r[1] for r in rows}


async def list_next_contacts(connection: Connection, after: str, limit: int) -> list[ContactId]:
    """Return the next contacts after an id, in id order, without merged ones."""
    rows = await connection.fetch(
        "SELECT contact_id FROM scoring.contacts "
        "WHERE contact_id > $1 AND merged_into IS NULL ORDER BY contact_id LIMIT $2",
        after,
        limit,
    )
    return [r[0] for r in rows]


async def delete_fold_rows(connection: Connection, fold: str, after: str, limit: int) -> str | None:
    """Delete a retired fold's states, snapshots, timers and fold errors of the next contacts.

    Its open transitions are closed and stay, as the record of the state as published. Returns the
    last contact id that was swept, or None at the end.
    """
    last: str | None = await connection.fetchval(
        "SELECT max(contact_id) FROM (SELECT contact_id FROM scoring.contacts "
        "WHERE contact_id > $1 ORDER BY contact_id LIMIT $2) c",
        after,
        limit,
    )
    end = _AFTER_LAST_ID if last is None else last
    for table in ("contact_states", "checkpoints", "timers", "fold_errors"):
        await connection.execute(
            f"DELETE FROM scoring.{table} WHERE contact_id > $1 AND contact_id <= $2 AND fold = $3",
            after,
            end,
            fold,
        )
    await connection.execute(
        "UPDATE scoring.transitions SET known_to = now() "
        "WHERE contact_id > $1 AND contact_id <= $2 AND fold = $3 AND known_to IS NULL",
        after,
        end,
        fold,
    )
    return last


async def count_progress(connection: Connection, to: str | None) -> tuple[int, int]:
    """Return the number of contacts up to a cursor, and of all; merged ones do not count."""
    row: Any = await connection.fetchrow(
        "SELECT count(*) FILTER (WHERE contact_id <= $1), count(*) "
        "FROM scoring.contacts WHERE merged_into IS NULL",
        to or "",
    )
    return (row[0], row[1])
