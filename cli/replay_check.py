"""`perigee replay-check`."""

from collections.abc import Callable
from typing import Any

from cli.idle_detection import wait_until_idle
from services.scoring.handlers.cycle_registry import DatabaseCycleRegistry
from services.scoring.replay import compare_with_stored
from services.scoring.repository import schedule


async def run_replay_check(
    environment: dict[str, str], seconds: float, say: Callable[[str], None]
) -> dict[str, Any] | None:
    """Wait for quiet, then compare in the same snapshot. Returns None when it is not quiet in time."""
    connection = await wait_until_idle(environment, seconds, say)
    if connection is None:
        return None
    try:
        frontier = await schedule.get_frontier(
            connection, int(environment.get("PERIGEE_PARTITIONS", "6"))
        )
        stored = DatabaseCycleRegistry(environment.get("PERIGEE_REACTION_WINDOW", ""))
        cycles = [cycle for cycle in await stored.get_active_cycles(connection) if cycle.live]
        return await compare_with_stored(connection, cycles, -1 if frontier is None else frontier)
    finally:
        await connection.close()


def format_report(outcome: dict[str, Any]) -> str:
    """Return the outcome for a person."""
    what = f"{outcome['touchpoints']} touchpoints, {outcome['contacts']} contacts, {outcome['transitions']} transitions"
    if outcome["equal"]:
        return f"equal: {what} folded again, every byte the same"
    return "\n".join(
        [f"NOT EQUAL: {what}", *(f"  {difference}" for difference in outcome["differences"])]
    )
