"""The active cycle versions, compiled.

Every transaction that folds locks them in shared mode until its end.
"""

from collections.abc import Sequence
from typing import Protocol

from libs.common.db.connection import Connection
from libs.common.durations import parse_duration
from libs.common.errors import ConfigurationError
from services.scoring.domain.cycle import ActiveCycle, build_cycle
from services.scoring.domain.cycle_parser import parse_cycle_spec
from services.scoring.repository import cycle_versions


class CycleRegistry(Protocol):
    """The source of the active cycles."""

    async def lock_active_cycles(self, connection: Connection) -> Sequence[ActiveCycle]:
        """Lock the cycle versions until the transaction ends; return live ones and shadows."""
        ...


class DatabaseCycleRegistry:
    """The active versions in the database, compiled again when they change."""

    def __init__(self, reaction_window: str = "") -> None:
        """Override the reaction window of every cycle, if given. Raises ConfigurationError."""
        try:
            self._window = parse_duration(reaction_window) if reaction_window else None
        except ValueError as error:
            raise ConfigurationError(f"PERIGEE_REACTION_WINDOW: {error}") from None
        self._compiled_versions: tuple[tuple[str, str, str], ...] = ()
        self._cycles: list[ActiveCycle] = []

    async def lock_active_cycles(self, connection: Connection) -> Sequence[ActiveCycle]:
        """Lock the cycle versions until the transaction ends; return live ones and shadows.

        Takes the advisory lock in shared mode, then reads. Raises ConfigurationError for a stored
        version that does not compile.
        """
        await cycle_versions.lock_versions_shared(connection)
        return await self.get_active_cycles(connection)

    async def get_active_cycles(self, connection: Connection) -> Sequence[ActiveCycle]:
        """Return the live cycles and the shadows without a lock, for readers."""
        active = await cycle_versions.list_active(connection)
        if active != self._compiled_versions:
            self._cycles = [await self._compile(connection, *version) for version in active]
            self._compiled_versions = active
        return self._cycles

    async def _compile(
        self, connection: Connection, name: str, version: str, status: str
    ) -> ActiveCycle:
        row = await cycle_versions.get_version(connection, name, version)
        assert row is not None
        spec = parse_cycle_spec(row.spec, f"cycle {row.fold}")
        if self._window is not None:
            spec = spec.model_copy(update={"reaction_window": self._window})
        return build_cycle(spec, live=status == "live")
