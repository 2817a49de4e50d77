"""Counts of the orchestrator's unfinished work, and of problems that wait for the operator."""

from libs.common.db.connection import Connection

_NOW = "(extract(epoch FROM now()) * 1000000)::bigint"
_UNFINISHED = {
    "rows in the orchestrator's outbox": "SELECT count(*) FROM orchestrator.outbox "
    "WHERE refused IS NULL",
    "touchpoints on their way back": "SELECT count(*) FROM orchestrator.echoes",
    "sweeps in progress": "SELECT count(*) FROM orchestrator.sweeps",
    "enrollments due": "SELECT count(*) FROM orchestrator.enrollments e "
    "JOIN orchestrator.plays p USING (workspace, play) "
    f"WHERE e.status = 'active' AND p.status = 'live' AND due_at <= {_NOW}",
    "actions due": "SELECT count(*) FROM orchestrator.actions "
    f"WHERE status IN ('pending', 'held', 'sending') AND due_at <= {_NOW}",
}
_PROBLEMS = {
    "actions in doubt": "SELECT count(*) FROM orchestrator.actions WHERE status = 'in_doubt'",
    "disabled subscriptions": "SELECT count(*) FROM orchestrator.subscriptions "
    "WHERE status = 'disabled'",
}


async def count_unfinished(connection: Connection) -> dict[str, int]:
    """Return the lengths of the queues by their description."""
    return {name: await connection.fetchval(query) for name, query in _UNFINISHED.items()}


async def count_problems(connection: Connection) -> dict[str, int]:
    """Return the rows that wait for the operator, by kind."""
    return {name: await connection.fetchval(query) for name, query in _PROBLEMS.items()}
