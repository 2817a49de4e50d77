"""Cycle registry without a database."""

from collections.abc import Sequence

from libs.common.db.connection import Connection
from services.scoring.domain.cycle import ActiveCycle


class FixedCycleRegistry:
    """Registry of constant cycles."""

    def __init__(self, cycles: Sequence[ActiveCycle]) -> None:
        self.cycles = list(cycles)

    async def lock_active_cycles(self, _: Connection) -> Sequence[ActiveCycle]:
        """Return the cycles."""
        return self.cycles
