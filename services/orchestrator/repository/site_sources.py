"""Sources by write key, in ingest's view of its sources."""

from libs.common.api_keys import hash_key
from libs.common.db.connection import Connection
from services.orchestrator.domain.visitor import SiteSource


async def get_by_write_key(connection: Connection, write_key: str) -> SiteSource | None:
    """Return the source of a valid write key, or None."""
    row = await connection.fetchrow(
        "SELECT workspace, source, trust, user_hash_secret, allowed_origins "
        "FROM ingest.live_write_keys WHERE key_hash = $1",
        hash_key(write_key),
    )
    return SiteSource(row[0], row[1], row[2], row[3], tuple(row[4])) if row else None
