"""Which cycle versions are folded now. Every transaction that folds asks, and holds the answer until its end."""

from collections.abc import Sequence
from typing import Protocol

from libs.common.db.connection import Connection
from libs.common.durations import parse_duration
from libs.common.errors import ConfigurationError
from services.scoring.domain.cycle import ActiveCycle, build_cycle
from services.scoring.domain.cycle_parser import parse_cycle_spec
from services.scoring.repository import cycle_versions


class CycleRegistry(Protocol):
    """What says which cycles are folded."""

    async def lock_active_cycles(self, connection: Connection) -> Sequence[ActiveCycle]:
        """Return the live cycles and the shadows, held for the rest of the transaction."""
        ...


class DatabaseCycleRegistry:
    """The versions in the database, compiled when they change."""

    def __init__(self, reaction_window: str = "") -> None:
        """`reaction_window` overrides that of every cycle. Raises ConfigurationError when it is no duration."""
        try:
            self._window = parse_duration(reaction_window) if reaction_window else None
        except ValueError as error:
            raise ConfigurationError(f"PERIGEE_REACTION_WINDOW: {error}") from None
        self._known: tuple[tuple[str, str, str], ...] = ()
        self._cycles: list[ActiveCycle] = []

    async def lock_active_cycles(self, connection: Connection) -> Sequence[ActiveCycle]:
        """Return the live cycles and the shadows, held for the rest of the transaction.

        Raises ConfigurationError when a stored version cannot be compiled.
        """
        await cycle_versions.lock_versions_shared(connection)
        return await self.get_active_cycles(connection)

    async def get_active_cycles(self, connection: Connection) -> Sequence[ActiveCycle]:
        """Return the live cycles and the shadows as they are in this snapshot, for who only reads."""
        now = await cycle_versions.list_active(connection)
        if now != self._known:
            self._cycles = [await self._compiled(connection, *one) for one in now]
            self._known = now
        return self._cycles

    async def _compiled(
        self, connection: Connection, name: str, version: str, status: str
    ) -> ActiveCycle:
        row = await cycle_versions.get_version(connection, name, version)
        assert row is not None
        spec = parse_cycle_spec(row.spec, f"cycle {row.fold}")
        if self._window is not None:
            spec = spec.model_copy(update={"reaction_window": self._window})
        return build_cycle(spec, live=status == "live")
