"""What contacts allow: consents as they were told, and the channels on which nothing goes out any more."""

from collections.abc import Collection, Sequence

from libs.common.db.connection import Connection

ConsentRow = tuple[str, str, str, bool, int, str]
"""(workspace, contact, purpose, granted, occurred_at, signal id)"""


async def upsert_consents(connection: Connection, rows: Sequence[ConsentRow]) -> None:
    """Keep the latest consent by instant; at one instant the stricter one holds."""
    await connection.executemany(
        "INSERT INTO orchestrator.consents (workspace, contact_id, purpose, granted, occurred_at, signal_id) "
        "VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (contact_id, purpose) DO UPDATE SET granted = excluded.granted, "
        "occurred_at = excluded.occurred_at, signal_id = excluded.signal_id "
        "WHERE consents.occurred_at < excluded.occurred_at "
        "OR (consents.occurred_at = excluded.occurred_at AND consents.granted AND NOT excluded.granted)",
        rows,
    )


async def count_consents(connection: Connection, workspace: str) -> int:
    """Return how many consents are recorded."""
    found: int = await connection.fetchval(
        "SELECT count(*) FROM orchestrator.consents WHERE workspace = $1 AND granted", workspace
    )
    return found


async def insert_suppressions(connection: Connection, rows: Sequence[tuple[str, str, str]]) -> None:
    """Send contacts nothing more on a channel: (contact, channel, reason); the first reason stays."""
    await connection.executemany(
        "INSERT INTO orchestrator.suppressions (contact_id, channel, reason) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        sorted(rows),
    )


async def delete_suppressions(
    connection: Connection, contacts: Sequence[str], channel: str, address: tuple[str, str]
) -> bool:
    """Let a channel be used again for a contact, under all its ids and its address; return whether it was suppressed."""
    rows = await connection.fetch(
        "DELETE FROM orchestrator.suppressions WHERE contact_id = ANY($1::text[]) AND channel = $2 RETURNING 1",
        contacts,
        channel,
    )
    of_address = await connection.fetch(
        "DELETE FROM orchestrator.suppressed_addresses WHERE (workspace, email_sha256) = ($1, $2) AND $3 = 'email' RETURNING 1",
        *address,
        channel,
    )
    return bool(rows or of_address)


async def insert_address_suppressions(
    connection: Connection, rows: Sequence[tuple[str, str, str]]
) -> None:
    """Send no more mails to addresses, whoever has them: (workspace, SHA-256 of the address, reason); the first reason stays."""
    await connection.executemany(
        "INSERT INTO orchestrator.suppressed_addresses (workspace, email_sha256, reason) VALUES ($1, $2, $3) "
        "ON CONFLICT DO NOTHING",
        sorted(rows),
    )


async def get_address_suppressions(
    connection: Connection, wanted: Collection[tuple[str, str]]
) -> dict[tuple[str, str], str]:
    """Return why no mails go to addresses, by (workspace, SHA-256)."""
    rows = await connection.fetch(
        "SELECT workspace, email_sha256, reason FROM orchestrator.suppressed_addresses WHERE email_sha256 = ANY($1::text[])",
        [address for _, address in wanted],
    )
    return {(r[0], r[1]): r[2] for r in rows}
