"""Counts of scoring's unfinished work, and of what waits for the operator."""

from libs.common.db.connection import Connection
from services.scoring.repository import schedule

_UNFINISHED = {
    "queued re-folds": "SELECT count(*) FROM scoring.refolds",
    "queued re-folds of accounts": "SELECT count(*) FROM scoring.account_refolds",
    "contacts to be joined": "SELECT count(*) FROM scoring.regroups",
    "cycle versions in rollout": "SELECT count(*) FROM scoring.cycle_versions "
    "WHERE status = 'shadow' OR told_to IS NOT NULL OR swept_to IS NOT NULL",
    "rows in scoring's outbox": "SELECT count(*) FROM scoring.outbox WHERE refused IS NULL",
    "compelling events due": "SELECT count(*) FROM scoring.compelling_events "
    "WHERE next_at <= (extract(epoch FROM now()) * 1000000)::bigint",
}


async def count_unfinished(connection: Connection) -> dict[str, int]:
    """Return the lengths of the queues by their description."""
    return {name: await connection.fetchval(query) for name, query in _UNFINISHED.items()}


async def count_due_timers(connection: Connection, partitions: int) -> int | None:
    """Return how many timers are due at the frontier, None while there is no frontier."""
    frontier = await schedule.get_frontier(connection, partitions)
    if frontier is None:
        return None
    count: int = await connection.fetchval(
        "SELECT count(*) FROM scoring.timers WHERE due_at <= $1", frontier
    )
    return count
