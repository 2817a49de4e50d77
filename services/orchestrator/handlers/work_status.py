"""Unfinished work of the orchestrator: consumer lag, queues, due enrollments and actions.

Problems that wait for the operator are counted as well.
"""

from libs.common.db.connection import Session
from libs.common.db.offsets import count_lag
from libs.common.db.outbox_quarantine import count_quarantined
from libs.common.kafka.topic_reader import get_end_offsets
from libs.common.work_status import WorkStatus
from services.orchestrator.handlers.event_consumer import TOPICS
from services.orchestrator.repository import work_status


class OrchestratorStatusService:
    """Reads the status of the instance, of all orchestrator processes together."""

    def __init__(self, session: Session, bootstrap_servers: str) -> None:
        self._session = session
        self._bootstrap_servers = bootstrap_servers

    async def get_status(self) -> WorkStatus:
        """Return the status. Raises Unavailable when Kafka or PostgreSQL does not answer."""
        ends = await get_end_offsets(self._bootstrap_servers, list(TOPICS))
        async with (
            self._session.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            lag = await count_lag(connection, "orchestrator", ends)
            counts = await work_status.count_unfinished(connection)
            problems = await work_status.count_problems(connection)
            refused = await count_quarantined(connection, "orchestrator")
        unfinished = [
            f"orchestrator lags {count} on {topic}" for topic, count in lag.items() if count
        ]
        totals = dict.fromkeys(TOPICS, 0)
        for (topic, _), end in ends.items():
            totals[topic] += end
        return WorkStatus(
            unfinished + [f"{count} {name}" for name, count in counts.items() if count],
            totals,
            {"refused outbox rows": refused, **problems},
        )
