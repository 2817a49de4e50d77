"""A catalogue without a database: always the same cycles."""

from collections.abc import Sequence

from libs.common.db.connection import Connection
from services.scoring.domain.cycle import ActiveCycle


class FixedCycleRegistry:
    """Always the same cycles."""

    def __init__(self, cycles: Sequence[ActiveCycle]) -> None:
        self.cycles = list(cycles)

    async def lock_active_cycles(self, _: Connection) -> Sequence[ActiveCycle]:
        """Return them."""
        return self.cycles
