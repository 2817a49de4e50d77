"""Figures of a workspace for reports and consoles. Nothing is written."""

import msgspec

from libs.common.db.connection import Session
from libs.common.ids import WorkspaceId
from services.orchestrator.repository import statistics


class PlayStatistics(msgspec.Struct, frozen=True):
    """Enrollments by play, actions by status, deliveries by outcome; of one snapshot."""

    plays: dict[str, int]
    actions: dict[str, int]
    deliveries: dict[str, int]


class PlayStatisticsService:
    """Counts stored rows: seconds for each million of actions."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def get_statistics(self, workspace: WorkspaceId) -> PlayStatistics:
        """Return the figures of a workspace. Raises Unavailable."""
        async with (
            self._session.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            return PlayStatistics(**await statistics.count_all(connection, workspace))
