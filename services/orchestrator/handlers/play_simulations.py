"""Play simulation beside the running service, in a thread with its own connection."""

import asyncio

import msgspec

from libs.common.background_thread import run_in_thread
from libs.common.db.connection import connect
from libs.common.errors import ConfigurationError, Conflict
from libs.common.ids import ContactId, WorkspaceId
from libs.common.instants import to_iso
from services.orchestrator.domain.gate import GateRules
from services.orchestrator.domain.play_simulation import SimulatedStep, count_by_day
from services.orchestrator.handlers.simulation_runner import run_simulation


class SimulatedDay(msgspec.Struct, frozen=True):
    """A day (UTC) on which something would have happened, and how often by kind."""

    day: str
    counts: dict[str, int]


class SimulatedEvent(msgspec.Struct, frozen=True):
    """A step that would have been taken; `at` is RFC 3339."""

    at: str
    contact: ContactId
    what: str
    step: str
    reason: str


class PlaySimulation(msgspec.Struct, frozen=True):
    """Effect that a play would have had; `happened` has the first steps, `total` counts all."""

    contacts: int
    days: list[SimulatedDay]
    total: int
    happened: list[SimulatedEvent]


class PlaySimulationService:
    """Runs plays over the published history, one at a time; nothing is written or sent."""

    def __init__(self, database_url: str, rules: GateRules) -> None:
        self._database_url = database_url
        self._rules = rules
        self._lock = asyncio.Lock()

    async def simulate(
        self, workspace: WorkspaceId, text: str, where: str, between: tuple[int, int], limit: int
    ) -> PlaySimulation:
        """Return a play's effect between two instants (µs UTC), with at most `limit` steps.

        Raises ConfigurationError with a line for each fault of the text, Conflict while another
        simulation runs, Unavailable.
        """
        if between[0] >= between[1]:
            raise ConfigurationError("the simulation has to begin before it ends")
        if self._lock.locked():
            raise Conflict("another simulation is running: try again after it")
        async with self._lock:
            contacts, steps = await run_in_thread(
                lambda: self._run(workspace, text, where, between)
            )
        return PlaySimulation(
            contacts,
            [SimulatedDay(to_iso(day)[:10], counts) for day, counts in count_by_day(steps)],
            len(steps),
            [
                SimulatedEvent(to_iso(s.at), s.contact_id, s.what, s.step, s.reason)
                for s in sorted(steps, key=lambda step: step.at)[:limit]
            ],
        )

    async def _run(
        self, workspace: WorkspaceId, text: str, where: str, between: tuple[int, int]
    ) -> tuple[int, list[SimulatedStep]]:
        connection = await connect(self._database_url, application="orchestrator-simulation")
        try:
            result = await run_simulation(
                connection, workspace, text, where, self._rules, between, lambda _: None
            )
        finally:
            await connection.close(timeout=5)
        return result.contacts, result.happened
