"""Figures of a workspace for reports and consoles. Nothing is written."""

import msgspec

from libs.common.db.connection import Session
from libs.common.ids import WorkspaceId
from services.scoring.repository import statistics
from services.scoring.repository.statistics import SourceFigures


class PositionFigures(msgspec.Struct, frozen=True):
    """Contacts at one combination of stages.

    `places` has one stage for each axis, in the cycle's order.
    """

    places: tuple[str, ...]
    contacts: int


class ContactStatistics(msgspec.Struct, frozen=True):
    """Figures of a workspace, of one snapshot."""

    sources: dict[str, SourceFigures]
    positions: dict[str, list[PositionFigures]]
    """By cycle, the combinations with most contacts first."""


class ContactStatisticsService:
    """Counts stored rows: seconds for each million of touchpoints."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def get_statistics(self, workspace: WorkspaceId) -> ContactStatistics:
        """Return the figures of a workspace. Raises Unavailable."""
        async with (
            self._session.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            sources = await statistics.count_by_source(connection, workspace)
            positions = await statistics.count_positions(connection, workspace)
        return ContactStatistics(
            sources,
            {
                cycle: [PositionFigures(places, count) for places, count in counts.most_common()]
                for cycle, counts in positions.items()
            },
        )
