"""`perigee replay-check`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cli.home import PROJECT
from cli.quiet import wait_until_quiet
from services.scoring.cycles import read_cycles
from services.scoring.replay import compare
from services.scoring.repository import schedule


async def check(environment: dict[str, str], seconds: float, say: Callable[[str], None]) -> dict[str, Any] | None:
    """Wait for quiet, then compare in the same snapshot. Returns None when it is not quiet in time."""
    cycles = read_cycles(Path(environment.get("PERIGEE_CYCLES") or PROJECT / "cycles"))
    connection = await wait_until_quiet(environment, seconds, say)
    if connection is None:
        return None
    try:
        frontier = await schedule.frontier(connection, int(environment.get("PERIGEE_PARTITIONS", "6")))
        return await compare(connection, cycles, -1 if frontier is None else frontier)
    finally:
        await connection.close()


def report(outcome: dict[str, Any]) -> str:
    """Return the outcome for a person."""
    what = f"{outcome['touchpoints']} touchpoints, {outcome['contacts']} contacts, {outcome['transitions']} transitions"
    if outcome["equal"]:
        return f"equal: {what} folded again, every byte the same"
    return "\n".join([f"NOT EQUAL: {what}", *(f"  {difference}" for difference in outcome["differences"])])
