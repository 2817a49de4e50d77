"""Application service for reports on plays: maturity of a workspace, impact of a play."""

from libs.common.clock import Clock
from libs.common.db.connection import Session
from libs.common.documents import parse_document
from libs.common.errors import ConfigurationError, NotFound
from libs.common.ids import WorkspaceId
from libs.common.instants import DAY
from services.orchestrator.domain.conversion_rate import ConversionRate, wilson_rate
from services.orchestrator.domain.maturity import BASELINE, Maturity, PlayUsage, assess_maturity
from services.orchestrator.domain.play import Play
from services.orchestrator.repository import consents, enrollments, plays

USAGE_PERIOD = 30 * DAY
"""Time before now in which enrollments count for the maturity (µs)."""


class PlayReportService:
    """Computes reports from enrollments."""

    def __init__(self, session: Session, clock: Clock, baseline: float = BASELINE) -> None:
        """`baseline` is the conversion rate with which plays are compared."""
        self._session = session
        self._clock = clock
        self._baseline = baseline

    async def assess_maturity(self, workspace: WorkspaceId) -> Maturity:
        """Return the maturity of a workspace, by the enrollments of the last 30 days."""
        since = self._clock.now() - USAGE_PERIOD
        async with self._session.acquire() as connection:
            rows = await plays.list_live_versions(connection)
            counts = await enrollments.count_by_play_since(connection, workspace, since)
            consent_count = await consents.count_consents(connection, workspace)
        usages = []
        for row in rows:
            if row.workspace != workspace:
                continue
            try:
                play = parse_document(Play, row.text, row.play)
            except ConfigurationError:
                continue  # this release cannot run it
            usages.append(PlayUsage(play, *counts.get(row.play, (0, 0, 0))))
        return assess_maturity(usages, consent_count, self._baseline)

    async def measure_impact(self, workspace: WorkspaceId, play: str) -> list[ConversionRate]:
        """Return the conversion rates of a play's versions and of its holdout. Raises NotFound."""
        async with self._session.acquire() as connection:
            if await plays.get_for_update(connection, workspace, play) is None:
                raise NotFound(f"workspace {workspace} has no play {play!r}")
            rows = await enrollments.count_by_status(connection, workspace, play)
        groups: dict[str, tuple[int, int]] = {}
        for number, status, entered, reached, _ in rows:
            group = "held out" if status == "holdout" else f"version {number}"
            before = groups.get(group, (0, 0))
            groups[group] = (before[0] + entered, before[1] + reached)
        return [
            wilson_rate(group, entered, reached)
            for group, (entered, reached) in sorted(groups.items())
        ]
