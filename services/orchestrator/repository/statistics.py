"""Figures of a workspace: enrollments, actions and deliveries."""

from libs.common.db.connection import Connection
from libs.common.ids import WorkspaceId

_QUERIES = {
    "plays": "SELECT play, count(*) FROM orchestrator.enrollments "
    "WHERE workspace = $1 GROUP BY 1 ORDER BY 1",
    "actions": "SELECT status, count(*) FROM orchestrator.actions "
    "WHERE workspace = $1 GROUP BY 1 ORDER BY 1",
    "deliveries": "SELECT outcome, count(*) FROM orchestrator.deliveries "
    "JOIN orchestrator.actions USING (action_id) WHERE workspace = $1 GROUP BY 1 ORDER BY 1",
}


async def count_all(connection: Connection, workspace: WorkspaceId) -> dict[str, dict[str, int]]:
    """Return enrollments by play, actions by status and deliveries by outcome.

    Reads every row of the workspace.
    """
    return {
        name: {row[0]: row[1] for row in await connection.fetch(query, workspace)}
        for name, query in _QUERIES.items()
    }
