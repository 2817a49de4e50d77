"""Unfinished work of scoring: consumer lag, queues, timers that are due.

And what waits for the operator.
"""

from libs.common.db.connection import Connection, Session
from libs.common.db.offsets import count_lag
from libs.common.db.outbox_quarantine import count_quarantined
from libs.common.kafka.topic_reader import get_end_offsets
from libs.common.work_status import WorkStatus
from services.scoring.repository import schedule, work_status

CONSUMED_TOPICS = ("touchpoints",)
EndOffsets = dict[tuple[str, int], int]


class ScoringStatusService:
    """Reads the status of the instance, of all scoring processes together."""

    def __init__(self, session: Session, bootstrap_servers: str, partitions: int) -> None:
        self._session = session
        self._bootstrap_servers = bootstrap_servers
        self._partitions = partitions

    async def get_status(self) -> WorkStatus:
        """Return the status. Raises Unavailable when Kafka or PostgreSQL does not answer."""
        ends = await get_end_offsets(self._bootstrap_servers, CONSUMED_TOPICS)
        async with (
            self._session.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            return WorkStatus(
                await list_unfinished(connection, ends, self._partitions),
                {topic: sum_of_ends(ends, topic) for topic in CONSUMED_TOPICS},
                {
                    "refused outbox rows": await count_quarantined(connection, "scoring"),
                    "fold errors": await schedule.count_fold_errors(connection),
                },
            )


async def list_unfinished(connection: Connection, ends: EndOffsets, partitions: int) -> list[str]:
    """Return what is still to do, a line each.

    `ends` were read before the connection's snapshot.
    """
    lag = await count_lag(connection, "scoring", ends)
    unfinished = [f"scoring lags {count} on {topic}" for topic, count in lag.items() if count]
    counts = await work_status.count_unfinished(connection)
    unfinished += [f"{count} {name}" for name, count in counts.items() if count]
    due = await work_status.count_due_timers(connection, partitions)
    if due is None:
        unfinished.append("no frontier yet")
    elif due:
        unfinished.append(f"{due} timers due")
    return unfinished


def sum_of_ends(ends: EndOffsets, topic: str) -> int:
    """Return the sum of a topic's end offsets."""
    return sum(end for (name, _), end in ends.items() if name == topic)
