"""Messages that scoring has published, by contact."""

from collections.abc import Sequence

from libs.common.db.connection import Connection
from libs.common.db.published_messages import event_type_of_headers
from libs.common.ids import ContactId, WorkspaceId
from libs.common.instants import DAY, to_datetime


async def list_contacts(
    connection: Connection, workspace: WorkspaceId, after: str, limit: int
) -> list[ContactId]:
    """Return the next canonical contact ids of a workspace."""
    rows = await connection.fetch(
        "SELECT contact_id FROM scoring.contact_profiles WHERE workspace = $1 "
        "AND contact_id > $2 AND merged_into IS NULL "
        "ORDER BY contact_id LIMIT $3",
        workspace,
        after,
        limit,
    )
    return [r[0] for r in rows]


async def list_published(
    connection: Connection, workspace: WorkspaceId, ids: Sequence[ContactId]
) -> list[tuple[ContactId, str, bytes]]:
    """Return (canonical id, kind, value) of all messages about contacts and their aliases."""
    rows = await connection.fetch(
        "SELECT coalesce(c.merged_into, c.contact_id) AS contact, m.headers, m.value "
        "FROM scoring.contact_profiles c "
        "JOIN scoring.published_messages m ON m.workspace = $1 AND m.key = c.contact_id "
        "WHERE c.contact_id = ANY($2::text[]) OR c.merged_into = ANY($2::text[])",
        workspace,
        list(ids),
    )
    return [(r["contact"], event_type_of_headers(r["headers"]), r["value"]) for r in rows]


async def list_recent(
    connection: Connection, ids: Sequence[ContactId], since: int
) -> list[tuple[ContactId, str, bytes]]:
    """Return (contact, kind, value) of messages from a day before an instant (µs UTC) on."""
    rows = await connection.fetch(
        "SELECT key, headers, value FROM scoring.published_messages WHERE key = ANY($1::text[]) "
        "AND published_at >= $2",
        list(ids),
        to_datetime(since - DAY),
    )
    return [(r["key"], event_type_of_headers(r["headers"]), r["value"]) for r in rows]
