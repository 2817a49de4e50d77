"""Which cycles the stored states were folded under."""

from libs.common.db.connection import Connection


async def install(connection: Connection, name: str, version: str, fingerprint: bytes) -> bool:
    """Note the cycle; return whether another one of the name was there, under which contacts are folded so far."""
    before: bytes | None = await connection.fetchval(
        "SELECT fingerprint FROM scoring.cycles WHERE name = $1 FOR UPDATE", name
    )
    await connection.execute(
        "INSERT INTO scoring.cycles (name, version, fingerprint) VALUES ($1, $2, $3) ON CONFLICT (name) DO UPDATE "
        "SET version = excluded.version, fingerprint = excluded.fingerprint, installed_at = now()",
        name,
        version,
        fingerprint,
    )
    return before is not None and before != fingerprint


async def refold_everybody(connection: Connection) -> int:
    """Queue every contact; from here on the stream stores their touchpoints without folding. Return how many."""
    status: str = await connection.execute(
        "INSERT INTO scoring.refolds (contact_id, reason) SELECT contact_id, 'cycle_published' FROM scoring.contacts "
        "WHERE merged_into IS NULL ON CONFLICT DO NOTHING"
    )
    return int(status.rsplit(" ", 1)[1])
